package console

import (
	"context"
	"io"
	"sync/atomic"

	"minivmm/devices/virtio/queue"
)

// Port is one named stream.
type Port struct {
	// Name is how the guest finds the port. It is unique and consists of up to [MaxName] printable
	// ASCII characters without spaces and slashes.
	Name string

	// Conn is the host side: data from the guest is written to Conn, and data read from Conn goes
	// to the guest. One goroutine calls Read and one calls Write; both may block for any time.
	// Close is called concurrently and must unblock them, as the Close of a net.Conn does.
	Conn io.ReadWriteCloser
}

// pieceSize is the maximum number of bytes that one Read or Write of Conn transfers, and so the
// maximum amount of data in flight in each direction. Linux puts up to this amount into one
// request.
const pieceSize = 32 << 10

// maxBatch is the maximum number of chains served before the driver is signalled and the context is
// checked, however fast the driver adds more.
const maxBatch = portSize

// port is the state of a Port from New to Close. Every channel has one slot, and one buffer
// circulates in each direction, so a send to one of the channels never blocks.
type port struct {
	name string
	conn io.ReadWriteCloser
	gone atomic.Bool     // the host has hung up; never cleared
	wake chan<- struct{} // posted when the host hangs up

	// Data to the guest. For each request that pumpIn receives from the channel ask, it sends one
	// piece to the channel in, or closes that channel. The bytes of a piece stay valid until the
	// next request.
	ask chan struct{}
	in  chan []byte
	// asked is set while a request has no answer. rest is the data that the guest has not received
	// yet. Both fields belong to the goroutine of the receive queue and survive a reset.
	asked bool
	rest  []byte

	// Data from the guest: free holds the unused buffer, nil at first, and out holds the filled
	// one.
	free, out chan []byte
}

func newPort(p Port, wake chan<- struct{}) *port {
	n := &port{
		name: p.Name, conn: p.Conn, wake: wake,
		ask: make(chan struct{}, 1), in: make(chan []byte, 1),
		free: make(chan []byte, 1), out: make(chan []byte, 1),
	}
	n.free <- nil
	return n
}

// hangUp marks the host side as disconnected.
func (p *port) hangUp() {
	p.gone.Store(true)
	post(p.wake)
}

// pumpIn reads conn once for each request, until conn or the device is closed.
func (p *port) pumpIn(ctx context.Context) error {
	defer close(p.in)
	var buf []byte
	for {
		select {
		case <-p.ask:
		case <-ctx.Done():
			return nil
		}
		if buf == nil {
			buf = make([]byte, pieceSize)
		}
		var n int
		var err error
		for n == 0 && err == nil {
			n, err = p.conn.Read(buf)
		}
		if n > 0 {
			p.in <- buf[:n]
		}
		if err != nil {
			return nil // toGuest sees that p.in is closed
		}
	}
}

// pumpOut writes filled buffers to conn, and discards them once conn has failed.
func (p *port) pumpOut(ctx context.Context) error {
	defer p.hangUp()
	failed := false
	for {
		var b []byte
		select {
		case b = <-p.out:
		case <-ctx.Done():
			return nil
		}
		if !failed {
			if _, err := p.conn.Write(b); err != nil {
				failed = true
				p.hangUp()
			}
		}
		p.free <- b[:cap(b)]
	}
}

// toGuest serves the receive queue: while the gate is open, it copies data from conn to the
// driver's buffers. A buffer of size 0 is returned empty.
func (p *port) toGuest(ctx context.Context, q *queue.Queue, gate func() error) error {
	var c queue.Chain
	for {
		if err := gate(); err != nil {
			return err
		}
		if len(p.rest) == 0 {
			if !p.asked {
				p.ask <- struct{}{}
				p.asked = true
			}
			select {
			case piece, ok := <-p.in:
				if !ok {
					p.hangUp()
					return nil
				}
				p.rest, p.asked = piece, false
			case <-ctx.Done():
				return ctx.Err()
			}
			continue // check the gate again: a guest that has just closed the port must not receive the piece
		}
		starved := false
		for i := 0; i < maxBatch && len(p.rest) > 0; i++ {
			ok, err := q.Next(&c)
			if err != nil {
				return err
			}
			if starved = !ok; starved {
				break
			}
			n := c.Writable.Write(p.rest)
			p.rest = p.rest[n:]
			if err := q.Done(&c, uint32(n)); err != nil {
				return err
			}
		}
		if err := q.Signal(); err != nil {
			return err
		}
		if starved {
			if err := q.Wait(ctx); err != nil {
				return err
			}
		}
	}
}

// fromGuest serves the transmit queue. A chain is returned when all of its data has been handed to
// pumpOut.
func (p *port) fromGuest(ctx context.Context, q *queue.Queue) error {
	var c queue.Chain
	var piece []byte // a buffer that is in neither channel, p.free or p.out
	defer func() {
		if piece != nil { // after a panic: keep the buffer for the next activation
			p.free <- piece
		}
	}()
	for {
		select {
		case piece = <-p.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if piece == nil {
			piece = make([]byte, pieceSize)
		}
		n, err := fill(piece, q, &c)
		if n > 0 {
			p.out <- piece[:n]
		} else {
			p.free <- piece
		}
		piece = nil
		if err == nil {
			err = q.Signal()
		}
		if err == nil && n == 0 {
			err = q.Wait(ctx)
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// fill fills piece from the available chains, starting with the unread rest of c, and returns to
// the driver the chains that have been read completely.
func fill(piece []byte, q *queue.Queue, c *queue.Chain) (n int, err error) {
	for i := 0; i < maxBatch && n < len(piece); i++ {
		if c.Readable.Len() == 0 {
			if ok, err := q.Next(c); err != nil || !ok {
				return n, err
			}
		}
		n += c.Readable.Read(piece[n:])
		if c.Readable.Len() > 0 {
			break
		}
		if err := q.Done(c, 0); err != nil {
			return n, err
		}
	}
	return n, nil
}
