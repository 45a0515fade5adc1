package lan

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// peer is another station.
type peer struct {
	Card
	conn  *net.UnixConn
	raw   syscall.RawConn
	close func() // closes the connection

	all *atomic.Int64 // bytes in the queues of all stations

	mu     sync.Mutex
	queue  [][]byte // frames that the socket has not accepted yet
	bytes  int      // bytes in queue
	broken bool     // nothing more is sent
	wake   chan struct{}
}

const (
	// MaxFrame is the maximum size of a frame in bytes.
	MaxFrame = 66000

	maxQueue  = 1 << 20 // bytes queued for one station, in addition to the socket's buffer
	maxQueues = 8 << 20 // bytes queued for all stations
	socketBuf = 1 << 20 // requested; the kernel limits it to net.core.wmem_max
)

// add registers a station and serves its connection until the connection or this station closes.
func (s *Station) add(c Card, conn *net.UnixConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		s.cfg.Logf("station %s: %v", c.Name, err)
		conn.Close()
		return
	}
	conn.SetWriteBuffer(socketBuf) // the kernel counts a large segment as twice its size
	ctx, cancel := context.WithCancel(s.tasks.Context())
	context.AfterFunc(ctx, func() { conn.Close() })
	p := &peer{Card: c, conn: conn, raw: raw, close: cancel, all: &s.waiting, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	// Any other station with this name or MAC has died; its connection has not been dropped yet.
	for _, old := range []*peer{s.byName[c.Name], s.byMAC[c.MAC]} {
		if old != nil {
			s.drop(old)
		}
	}
	s.byName[c.Name], s.byMAC[c.MAC] = p, p
	s.mu.Unlock()
	s.tasks.Go(func(context.Context) error { return p.write(ctx) })
	s.tasks.Go(func(context.Context) error {
		defer conn.Close()
		p.read(func(frame []byte) { s.cfg.Receive(c, frame) })
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(p)
		return nil
	})
}

// drop removes a station and closes its connection. s.mu must be held.
func (s *Station) drop(p *peer) {
	p.close()
	if s.byName[p.Name] == p {
		delete(s.byName, p.Name)
	}
	if s.byMAC[p.MAC] == p {
		delete(s.byMAC, p.MAC)
	}
}

// read passes each frame to deliver until the connection closes.
func (p *peer) read(deliver func([]byte)) {
	buf := make([]byte, MaxFrame+1)
	for {
		n, err := p.conn.Read(buf)
		if err != nil || n == 0 {
			return
		}
		if n <= MaxFrame {
			deliver(buf[:n])
		}
	}
}

// send sends a frame if the socket accepts it immediately; otherwise it queues or drops the frame.
func (p *peer) send(pieces [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken {
		return
	}
	if len(p.queue) == 0 {
		var err error
		if cerr := p.raw.Control(func(fd uintptr) { err = sendNow(int(fd), pieces) }); cerr != nil {
			err = cerr
		}
		if err != unix.EAGAIN {
			p.broken = err != nil && err != unix.EMSGSIZE && err != unix.ENOBUFS && err != unix.ENOMEM
			return
		}
	}
	size := 0
	for _, b := range pieces {
		size += len(b)
	}
	if p.bytes+size > maxQueue {
		return
	}
	if p.all.Add(int64(size)) > maxQueues {
		p.all.Add(-int64(size))
		return
	}
	p.bytes += size
	p.queue = append(p.queue, bytes.Join(pieces, nil))
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func sendNow(fd int, pieces [][]byte) error {
	for {
		if _, err := unix.SendmsgBuffers(fd, pieces, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err != unix.EINTR {
			return err
		}
	}
}

// write sends queued frames when the socket accepts them. After it returns, nothing more is sent.
func (p *peer) write(ctx context.Context) error {
	defer p.stop()
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return nil
		}
		for more := true; more; {
			var err error
			if more, err = p.writeOne(); err != nil {
				return nil // the station has left
			}
		}
	}
}

// writeOne blocks until the first queued frame is sent, and reports whether there are more. The
// frame stays in the queue until it is sent, so that no other frame overtakes it.
func (p *peer) writeOne() (more bool, err error) {
	p.mu.Lock()
	if len(p.queue) == 0 {
		p.mu.Unlock()
		return false, nil
	}
	first := p.queue[0]
	p.mu.Unlock()
	if _, err := p.conn.Write(first); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all.Add(-int64(len(first)))
	p.bytes -= len(first)
	p.queue[0] = nil
	p.queue = p.queue[1:]
	return len(p.queue) > 0, nil
}

func (p *peer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all.Add(-int64(p.bytes))
	p.broken, p.queue, p.bytes = true, nil, 0
}
