package console_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/console"
	"minivmm/devices/virtio/virtiotest"
)

// conn is a Conn whose reads are provided by the test and counted.
type conn struct {
	reads  atomic.Int32
	pieces chan []byte // closed: end of file
	writes func([]byte) (int, error)
	closed chan struct{}
}

func newConn() *conn {
	return &conn{pieces: make(chan []byte, 16), closed: make(chan struct{})}
}

func (c *conn) Read(p []byte) (int, error) {
	c.reads.Add(1)
	select {
	case b, ok := <-c.pieces:
		if !ok {
			return 0, io.EOF
		}
		return copy(p, b), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *conn) Write(p []byte) (int, error) { return c.writes(p) }

func (c *conn) Close() error { close(c.closed); return nil }

func TestAClosedPortGetsNothingUntilItIsOpenAgain(t *testing.T) {
	c := newConn()
	d := virtiotest.NewDriver(t, newDevice(t, console.Port{Name: "a", Conn: c}))
	d.Start(^virtio.Features(0))
	ready(t, d, 1, "a")
	in := newInbox(t, d, rx(1), 4, 64)
	tell(t, d, 1, portOpen, 1)
	c.pieces <- []byte("first")
	in.want([]byte("first"))
	// The device is already reading when the port is closed, and then receives "second".
	for c.reads.Load() < 2 {
		runtime.Gosched()
	}
	tell(t, d, 1, portOpen, 0)
	c.pieces <- []byte("second")
	for len(c.pieces) > 0 {
		runtime.Gosched()
	}
	for range 200 { // enough time to do the wrong thing
		tell(t, d, 1, portOpen, 0)
	}
	r := d.Rings[rx(1)]
	d.Reset()
	if got := r.UsedIdx(); got != 1 {
		t.Errorf("used.idx %d: a closed port received data", got)
	}
	d.Start(^virtio.Features(0))
	ready(t, d, 1, "a")
	in = newInbox(t, d, rx(1), 4, 64)
	tell(t, d, 1, portOpen, 1)
	in.want([]byte("second"))
}

// Hanging up follows the data and is permanent; data from the guest still gets through.
func TestAConnThatEndsHangsUp(t *testing.T) {
	c := newConn()
	written := make(chan string, 1)
	c.writes = func(p []byte) (int, error) { written <- string(p); return len(p), nil }
	d := virtiotest.NewDriver(t, newDevice(t, console.Port{Name: "a", Conn: c}))
	c.pieces <- []byte("last words")
	close(c.pieces)
	d.Start(^virtio.Features(0))
	control := ready(t, d, 1, "a")
	tell(t, d, 1, portOpen, 1)
	in := newInbox(t, d, rx(1), 1, 64)
	control.hear(1, portOpen, 0, "")
	if u, ok := d.Rings[rx(1)].Used(); !ok || string(in.bufs[u.ID][:u.Len]) != "last words" {
		t.Error("the port was hung up before its data was delivered")
	}
	for range 2 {
		write(t, d, tx(1), []byte("still here"))
		if got := <-written; got != "still here" {
			t.Errorf("the host received %q", got)
		}
		d.Reset()
		d.Start(^virtio.Features(0))
		ready(t, d, 0, "a")
	}
}

func TestAConnThatCannotBeWrittenHangsUp(t *testing.T) {
	c := newConn()
	calls := 0
	c.writes = func([]byte) (int, error) { calls++; return 0, unix.EPIPE }
	d := virtiotest.NewDriver(t, newDevice(t, console.Port{Name: "a", Conn: c}))
	d.Start(^virtio.Features(0))
	control := ready(t, d, 1, "a")
	write(t, d, tx(1), []byte("hello"))
	control.hear(1, portOpen, 0, "")
	for range 10 {
		write(t, d, tx(1), noise(10_000))
	}
	d.Reset()
	d.Start(^virtio.Features(0))
	ready(t, d, 0, "a")
	write(t, d, tx(1), []byte("anybody?"))
	d.Close()
	if calls != 1 {
		t.Errorf("Conn was written %d times, want 1", calls)
	}
}

// Both goroutines are blocked in Conn, and chains are partly consumed.
func TestResetAndCloseWaitForNoHost(t *testing.T) {
	before := virtiotest.TakeFootprint(t)
	d, _, _ := one(t, true)
	for range 50 {
		put(d, tx(1), noise(100_000))
		put(d, tx(1), noise(10))
		d.Reset()
		d.Start(^virtio.Features(0))
		ready(t, d, 1, "a")
		tell(t, d, 1, portOpen, 1)
	}
	d.Close()
	before.Holds(t)
}

func TestCloseReturnsTheErrorOfConn(t *testing.T) {
	d := newDevice(t, console.Port{Name: "a", Conn: badCloser{newConn()}})
	if err := d.Close(); !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), `close port "a"`) {
		t.Errorf("close: %v", err)
	}
}

type badCloser struct{ *conn }

func (b badCloser) Close() error { b.conn.Close(); return unix.EIO }

// panicky is a Conn with a bug.
type panicky struct{ *conn }

func (panicky) Read([]byte) (int, error) { panic("out of order") }

func (panicky) Write(p []byte) (int, error) { panic("out of order") }

// After a panic of a Conn the device needs a reset.
func TestAPanicOfConnFailsTheDevice(t *testing.T) {
	for _, name := range []string{"Read", "Write"} {
		t.Run(name, func(t *testing.T) {
			d := virtiotest.NewDriver(t, newDevice(t, echo("a"), console.Port{Name: "b", Conn: panicky{newConn()}}))
			d.Start(^virtio.Features(0))
			ready(t, d, 1, "a", "b")
			switch name {
			case "Read":
				tell(t, d, 2, portOpen, 1)
			case "Write":
				write(t, d, tx(2), []byte("hello"))
			}
			if err := d.WaitNeedsReset(); err != nil {
				t.Error(err)
			}
			d.Reset()
			d.Start(^virtio.Features(0))
		})
	}
}
