package console

import (
	"context"
	"io"
	"sync/atomic"

	"minivmm/devices/virtio/queue"
)

// Port is one named stream.
type Port struct {
	// Name is how the guest finds the port: printable ASCII without spaces
	// and slashes, up to [MaxName] bytes, and no other port's.
	Name string

	// Conn is the host's side: what the guest writes is written to Conn, and
	// what Conn reads goes to the guest. Read and Write are called by one
	// goroutine each and may wait for as long as they like. Close must end
	// them, as that of a net.Conn does: it may be called meanwhile.
	Conn io.ReadWriteCloser
}

// pieceSize is how much is read from Conn or written to it at once, in bytes,
// and so what is on its way in either direction. Linux puts as much into one
// request.
const pieceSize = 32 << 10

// maxBatch is how many chains are served before the driver hears of them and
// the context is looked at, however fast a driver gives more.
const maxBatch = portSize

// port is a Port from New to Close. Every channel has one slot, and one buffer
// goes around in each direction: a send to a channel below never waits.
type port struct {
	name string
	conn io.ReadWriteCloser
	gone atomic.Bool     // the host has hung up; never taken back
	wake chan<- struct{} // to be posted then

	// To the guest. An ask is answered by one piece, whose bytes stay until
	// the next ask, or by the end of in.
	ask chan struct{}
	in  chan []byte
	// asked says that there is an ask without an answer, rest what the guest
	// did not get yet. Both are the receive queue's goroutine's, and stay
	// for the next one.
	asked bool
	rest  []byte

	// From the guest: a buffer to fill, nil at first, and what is filled.
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

// hangUp says that nobody is at the host's end any more.
func (p *port) hangUp() {
	p.gone.Store(true)
	post(p.wake)
}

// pumpIn reads conn, once for each ask, until conn or the device ends.
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
			return nil // the end of in says so
		}
	}
}

// pumpOut writes to conn what is filled, and drops it once conn has failed.
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

// toGuest serves the receive queue: while the gate is open, what comes from conn
// goes into the driver's buffers. A buffer without room comes back empty.
func (p *port) toGuest(ctx context.Context, q *queue.Queue, gate func(context.Context) error) error {
	var c queue.Chain
	for {
		if err := gate(ctx); err != nil {
			return err
		}
		if len(p.rest) == 0 {
			ended, err := p.more(ctx)
			if ended {
				p.hangUp()
			}
			if ended || err != nil {
				return err
			}
			continue // a guest that has closed the port meanwhile gets none of it
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

// more waits for the next piece from conn, or for its end.
func (p *port) more(ctx context.Context) (ended bool, err error) {
	if !p.asked {
		p.ask <- struct{}{}
		p.asked = true
	}
	select {
	case piece, ok := <-p.in:
		if !ok {
			return true, nil
		}
		p.rest, p.asked = piece, false
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// fromGuest serves the transmit queue. A chain comes back when all of it is on
// its way to conn.
func (p *port) fromGuest(ctx context.Context, q *queue.Queue) error {
	var c queue.Chain
	begun := false   // c is in part on its way
	var piece []byte // neither free nor out
	defer func() {
		if piece != nil { // after a panic, for the next life
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
		n, err := fill(piece, q, &c, &begun)
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

// fill fills piece from the chains that are there, the one in c first if it was
// begun, and gives back those that are read out.
func fill(piece []byte, q *queue.Queue, c *queue.Chain, begun *bool) (n int, err error) {
	for i := 0; i < maxBatch && n < len(piece); i++ {
		if !*begun {
			if *begun, err = q.Next(c); err != nil || !*begun {
				return n, err
			}
		}
		n += c.Readable.Read(piece[n:])
		if c.Readable.Len() > 0 {
			break
		}
		*begun = false
		if err := q.Done(c, 0); err != nil {
			return n, err
		}
	}
	return n, nil
}
