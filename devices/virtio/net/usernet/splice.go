package usernet

import (
	"context"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// guestEnd is the guest's end of a connection or flow.
type guestEnd struct {
	ep tcpip.Endpoint
	wq *waiter.Queue
}

// listen returns a channel that receives a value after an event in mask, a hang-up or an error.
func (g *guestEnd) listen(mask waiter.EventMask) (events chan struct{}, stop func()) {
	entry, events := waiter.NewChannelEntry(mask | waiter.EventHUp | waiter.EventErr)
	e := &entry
	g.wq.EventRegister(e)
	return events, func() { g.wq.EventUnregister(e) }
}

// splice forwards data, half closes and resets until both directions are done. It then closes the
// host's connection.
func splice(s *session, host *net.TCPConn, guest *guestEnd) {
	defer host.Close()
	raw, err := host.SyscallConn()
	if err != nil {
		guest.ep.Abort()
		return
	}
	c := &spliced{session: s, host: host, raw: raw, guest: guest}
	// reset closes the socket, which wakes a loop that waits for it. Both loops also check ctx.
	defer s.afterFunc(s.ctx, c.reset)()
	// A reset by the guest must wake both loops too, because both may be waiting for the host.
	gone := waiter.NewFunctionEntry(waiter.EventHUp|waiter.EventErr, func(waiter.EventMask) {
		if c.failed() {
			host.SetDeadline(time.Unix(1, 0))
		}
	})
	guest.wq.EventRegister(&gone)
	defer guest.wq.EventUnregister(&gone)
	done := make(chan struct{})
	if !s.start(func() {
		defer close(done)
		c.run(c.toGuest)
	}) {
		c.reset()
		return
	}
	c.run(c.toHost)
	<-done
}

// spliced is one connection in both directions.
type spliced struct {
	session *session
	host    *net.TCPConn
	raw     syscall.RawConn
	guest   *guestEnd
}

// run runs one direction. If it fails, run resets the connection, which ends the other direction.
func (c *spliced) run(direction func() bool) {
	ok := false
	defer func() { // also after a panic: otherwise the other direction would wait forever
		if !ok {
			c.reset()
		}
	}()
	ok = direction()
}

// reset sends a RST to both sides.
func (c *spliced) reset() {
	abort(c.host)
	c.guest.ep.Abort()
}

// abort closes a socket and sends a RST.
func abort(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// toHost writes data from the guest to the socket, directly from the stack's packets. The stack
// locks the endpoint during Read, so the writer must not block.
func (c *spliced) toHost() bool {
	events, stop := c.guest.listen(waiter.ReadableEvents)
	defer stop()
	// Wait on a single channel: a select on two is slower, and it would run for every packet.
	defer context.AfterFunc(c.session.ctx, func() {
		select {
		case events <- struct{}{}:
		default:
		}
	})()
	var w socketWriter
	var terr tcpip.Error
	once := func(fd uintptr) (done bool) {
		w = socketWriter{fd: int(fd)}
		var res tcpip.ReadResult
		res, terr = c.guest.ep.Read(&w, tcpip.ReadOptions{})
		return res.Count > 0 || w.err != unix.EAGAIN
	}
	for {
		if err := c.raw.Write(once); err != nil || w.err != nil && w.err != unix.EAGAIN {
			return false
		}
		switch terr.(type) {
		case nil:
			if c.guest.ep.Readiness(waiter.ReadableEvents) != 0 {
				continue
			}
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForReceive:
			// Read also returns this error after a reset, once the reset's own error has been read.
			return !c.failed() && c.host.CloseWrite() == nil
		default:
			return false
		}
		if <-events; c.session.ctx.Err() != nil {
			return false
		}
	}
}

// socketWriter writes to a socket without blocking.
type socketWriter struct {
	fd  int
	err error // of write(2)
}

func (w *socketWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, errno := sendNow(w.fd, p[n:])
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			w.err = errno
			return n, errno
		}
		n += m
	}
	return n, nil
}

// toGuest moves data from the socket to the guest. It reads only while the guest's side has room
// and the guest accepts frames, so that the socket's own receive buffer applies back pressure.
func (c *spliced) toGuest() bool {
	events, stop := c.guest.listen(waiter.WritableEvents)
	defer stop()
	var r socketReader
	var werr tcpip.Error
	var room <-chan struct{}
	// move moves all available data. RawConn.Read waits for more data and then calls move again.
	move := func(fd uintptr) (done bool) {
		werr, r.err = nil, nil
		for r.fd = int(fd); ; {
			if room = c.session.recv.congested(); !c.failed() && (room != nil || c.guest.ep.Readiness(waiter.WritableEvents) == 0) {
				werr = &tcpip.ErrWouldBlock{}
				return true
			}
			if !r.look() {
				return r.err != unix.EAGAIN
			}
			if _, werr = c.guest.ep.Write(&r, tcpip.WriteOptions{}); werr != nil || r.err != nil {
				return true
			}
		}
	}
	for {
		if err := c.raw.Read(move); err != nil || r.err != nil && r.err != io.EOF {
			return false
		}
		if r.err == io.EOF {
			c.guest.ep.Shutdown(tcpip.ShutdownWrite)
			return true
		}
		if _, full := werr.(*tcpip.ErrWouldBlock); !full || !c.wait(events, room) {
			return false
		}
	}
}

// wait waits until toGuest may continue. Meanwhile it polls for a reset by the host. It returns
// false after such a reset and at the end of the session.
func (c *spliced) wait(events, room <-chan struct{}) bool {
	for {
		select {
		case <-events:
			return true
		case <-room:
			return true
		case <-time.After(hostPoll):
			if c.hostGone() {
				return false
			}
		case <-c.session.ctx.Done():
			return false
		}
	}
}

// failed reports whether the guest's end was reset.
func (c *spliced) failed() bool {
	return tcp.EndpointState(c.guest.ep.State()) == tcp.StateError
}

// hostPoll is how often the host's end is checked for a reset while the guest accepts no data.
const hostPoll = 5 * time.Second

// hostGone reports whether the host's end was reset.
func (c *spliced) hostGone() (gone bool) {
	err := c.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd)}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n == 1 && p[0].Revents&unix.POLLERR != 0
	})
	return gone || err != nil
}

// socketReader passes the data that a socket has received to the stack as a payload. It does not
// block. It reads up to fewBytes into its own buffer first, and any further data into memory that
// the stack keeps.
type socketReader struct {
	fd   int
	few  [fewBytes]byte
	head []byte // part of few: bytes read from the socket that the stack has not read yet
	left int    // bytes to read after head
	many bool   // the last call of look found more than fewBytes
	err  error  // EAGAIN if there is no data, io.EOF at the end
}

const fewBytes = 2048

// look determines how much data is available, at most segmentSize. It returns false if there is
// none.
func (r *socketReader) look() bool {
	r.left, r.err = 0, nil
	if len(r.head) > 0 {
		return true
	}
	if !r.many {
		n, err := receive(r.fd, r.few[:])
		if err != nil {
			r.err = err
			return false
		}
		r.head = r.few[:n]
		if n < fewBytes {
			return true
		}
	}
	n, err := unix.IoctlGetInt(r.fd, unix.SIOCINQ)
	if err != nil {
		r.err = err
		return false
	}
	r.left, r.many = min(n, segmentSize-len(r.head)), n > fewBytes
	// SIOCINQ is 0 if there is no data, at the end and after an error: only a read tells which.
	return r.Len() > 0 || r.look()
}

// Len implements tcpip.Payloader.
func (r *socketReader) Len() int { return len(r.head) + r.left }

// Read implements tcpip.Payloader. The data that look found is still in the socket.
func (r *socketReader) Read(p []byte) (int, error) {
	switch {
	case r.Len() == 0:
		return 0, io.EOF
	case len(p) == 0: // the stack asks only whether the end is reached
		return 0, nil
	case len(r.head) > 0:
		n := copy(p, r.head)
		r.head = r.head[n:]
		return n, nil
	}
	n, err := receive(r.fd, p[:min(len(p), r.left)])
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		r.err = err
		return 0, err
	}
	r.left -= n
	return n, nil
}

// receive is a non-blocking recv(2).
func receive(fd int, p []byte) (int, error) {
	for {
		switch n, errno := receiveNow(fd, p); {
		case errno == unix.EINTR:
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
