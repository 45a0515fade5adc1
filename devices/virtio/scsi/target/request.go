package target

import (
	"errors"
	"sync/atomic"
)

// CDBBytes is the size of the CDB buffer.
const CDBBytes = 32

// Status is a SCSI status code (SAM-5 §5.3.1).
type Status byte

// Status codes that this target returns.
const (
	Good           Status = 0x00
	CheckCondition Status = 0x02
)

// Request is one command. Out is the data from the initiator, In the buffer for data to the
// initiator. Both are in guest memory. Serve does not modify the slices themselves.
type Request struct {
	LUN       uint16
	CDB       [CDBBytes]byte
	Out, In   [][]byte
	Cancelled atomic.Bool // set by task management: a long command stops early

	call call // Serve's state, embedded here to avoid an allocation for each command
}

// Reply is the result of a command.
type Reply struct {
	Status Status
	// Sense is valid with CheckCondition.
	Sense [SenseBytes]byte
	// Used is how many bytes of Out were used, Filled how many bytes of In were written, both from
	// the start; 0 if the status is not Good.
	Used, Filled int
	// Overrun: the CDB asks for more bytes than Out or In hold. Nothing was transferred.
	Overrun bool
	// Resized: the unit's size has changed.
	Resized bool
}

var (
	errAgain   = errors.New("would have to wait for the host")
	errOverrun = errors.New("the CDB asks for more bytes than the buffers hold")
	errShort   = errors.New("unexpected end of file")
)

// call is a request in progress.
type call struct {
	*Request
	t            *Target
	u            *unit // nil: the logical unit does not exist
	wait         bool
	used, filled int
	resized      bool
}

// answer fills In with data, truncated to the allocation length.
func (c *call) answer(data []byte, allocation uint32) error {
	if uint64(allocation) < uint64(len(data)) {
		data = data[:allocation]
	}
	if size(c.In) < len(data) {
		return errOverrun
	}
	c.filled = len(data)
	for _, b := range c.In {
		if len(data) == 0 {
			break
		}
		data = data[copy(b, data):]
	}
	return nil
}

// parameters copies n bytes out of Out.
func (c *call) parameters(n int) ([]byte, error) {
	if size(c.Out) < n {
		return nil, errOverrun
	}
	p := make([]byte, 0, n)
	for _, b := range c.Out {
		p = append(p, b[:min(len(b), n-len(p))]...)
	}
	c.used = n
	return p, nil
}

// size is the length of all buffers in bytes.
func size(bufs [][]byte) int {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	return n
}

// first returns the first n bytes of bufs, which must hold as many. It does not modify bufs.
func first(bufs [][]byte, n int) [][]byte {
	if size(bufs) == n {
		return bufs
	}
	var taken [][]byte
	for _, b := range bufs {
		if n == 0 {
			break
		}
		b = b[:min(len(b), n)]
		n -= len(b)
		taken = append(taken, b)
	}
	return taken
}

// after returns bufs without the first n bytes. It does not modify bufs.
func after(bufs [][]byte, n int) [][]byte {
	for i, b := range bufs {
		if n < len(b) {
			if n == 0 {
				return bufs[i:]
			}
			return append([][]byte{b[n:]}, bufs[i+1:]...)
		}
		n -= len(b)
	}
	return nil
}
