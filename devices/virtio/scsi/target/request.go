package target

import (
	"errors"
	"slices"
	"sync/atomic"

	"minivmm/devices/virtio/queue"
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

// Request is one command. Out holds the data from the initiator. In is the buffer for data to the
// initiator. Both are in guest memory. Serve does not modify the slices Out and In themselves.
type Request struct {
	LUN       uint16
	CDB       [CDBBytes]byte
	Out, In   queue.Buffers
	Cancelled atomic.Bool // set by task management: a long command stops early

	call call // Serve's state, embedded here to avoid an allocation for each command
}

// Reply is the result of a command.
type Reply struct {
	Status Status
	// Sense is valid if Status is CheckCondition.
	Sense [SenseBytes]byte
	// Used is the number of bytes read from the start of Out. Filled is the number of bytes
	// written from the start of In. Both are 0 if the status is not Good.
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
	if c.In.Len() < len(data) {
		return errOverrun
	}
	in := slices.Clone(c.In)
	c.filled = in.Write(data)
	return nil
}

// parameters returns a copy of the first n bytes of Out.
func (c *call) parameters(n int) ([]byte, error) {
	if c.Out.Len() < n {
		return nil, errOverrun
	}
	p := make([]byte, n)
	out := slices.Clone(c.Out)
	c.used = out.Read(p)
	return p, nil
}

// first returns the first n bytes of bufs, which must hold at least n bytes. It does not modify
// bufs.
func first(bufs queue.Buffers, n int) queue.Buffers {
	if bufs.Len() == n {
		return bufs
	}
	bufs = slices.Clone(bufs)
	return bufs.Take(n)
}
