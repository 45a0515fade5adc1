package agent

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"sync"
)

// Kind identifies a frame's payload.
type Kind byte

// The kinds. Frames of the kinds KindRun to KindSignal and KindExitTaken are sent to init. Frames
// of the other kinds are sent by init.
const (
	KindRun        Kind = 'R' // a Command in JSON, always the first frame
	KindStdin      Kind = 'i' // bytes for standard input
	KindStdinEnd   Kind = 'I' // end of standard input
	KindResize     Kind = 'w' // terminal size: rows and columns, 16 bits each
	KindSignal     Kind = 's' // one byte, the signal's number
	KindHello      Kind = 'H' // init is running
	KindStart      Kind = 'S' // the command's process starts next; its input may be sent from now on
	KindStdinTaken Kind = 't' // 32 bits: the number of bytes of standard input that were consumed
	KindStdout     Kind = 'o'
	KindStderr     Kind = 'e'
	KindExit       Kind = 'X' // an Exit in JSON, always the last frame that init sends
	KindExitTaken  Kind = 'x' // to init: the Exit and all frames before it were read; the VM may stop
)

// Window is the maximum number of bytes of standard input that are sent but not yet consumed.
// Without it, a command that does not read its input would block later frames.
const Window = 256 << 10

// MaxData is the largest payload of a data frame: virtio_console's largest write, less the header.
const MaxData = 32<<10 - headerSize

const (
	headerSize = 5
	maxPayload = 16 << 20 // a Run frame with a large environment
)

// Conn sends and receives frames.
type Conn struct {
	r *bufio.Reader

	mu sync.Mutex
	w  io.Writer // guarded by mu, so that frames are not interleaved
}

// NewConn returns a Conn over rw, which the caller closes.
func NewConn(rw io.ReadWriter) *Conn {
	return &Conn{r: bufio.NewReaderSize(rw, 64<<10), w: rw}
}

// Send writes one frame.
func (c *Conn) Send(kind Kind, payload []byte) error {
	frame := make([]byte, headerSize, headerSize+len(payload))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	frame = append(frame, payload...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.w.Write(frame); err != nil {
		return fmt.Errorf("channel: %w", err)
	}
	return nil
}

// SendJSON writes one frame with v in JSON.
func (c *Conn) SendJSON(kind Kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("channel: %w", err)
	}
	return c.Send(kind, b)
}

// Receive reads one frame. The error is io.EOF if the stream ends between two frames.
func (c *Conn) Receive() (Kind, []byte, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(c.r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > maxPayload {
		return 0, nil, fmt.Errorf("channel: frame %q of %d bytes", header[0], size)
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return Kind(header[0]), payload, nil
}

// Copy sends the data of r as frames of the given kind, until r ends or fails. It returns only
// errors of the connection.
func (c *Conn) Copy(kind Kind, r io.Reader) error {
	buf := make([]byte, MaxData)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := c.Send(kind, buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}
