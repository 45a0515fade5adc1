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
	conn *net.UnixConn
	raw  syscall.RawConn

	all *atomic.Int64 // bytes of the queues of all stations

	mu     sync.Mutex
	queue  [][]byte // what the socket did not take
	bytes  int      // of the queue
	broken bool     // nothing is sent any more
	wake   chan struct{}
}

const (
	// MaxFrame is the largest message.
	MaxFrame = 66000

	maxQueue  = 1 << 20 // bytes that wait for one station, beside the socket's own
	maxQueues = 8 << 20 // bytes that wait for all of them
	socketBuf = 1 << 20 // asked for; the kernel gives net.core.wmem_max at most
)

// add enters a station and serves its connection, until either ends.
func (s *Station) add(c Card, conn *net.UnixConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		s.cfg.Logf("station %s: %v", c.Name, err)
		conn.Close()
		return
	}
	conn.SetWriteBuffer(socketBuf) // a large segment counts twice its size
	p := &peer{Card: c, conn: conn, raw: raw, all: &s.waiting, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		conn.Close()
		return
	}
	// One of the same name has died, and its connection's end is not read yet.
	for _, old := range []*peer{s.byName[c.Name], s.byMAC[c.MAC]} {
		if old != nil {
			s.drop(old)
		}
	}
	s.byName[c.Name], s.byMAC[c.MAC] = p, p
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	s.tasks.Go(func(context.Context) error { return p.write(ctx) })
	s.tasks.Go(func(context.Context) error {
		defer cancel()
		p.read(func(frame []byte) { s.cfg.Receive(c, frame) })
		s.mu.Lock()
		defer s.mu.Unlock()
		s.drop(p)
		return nil
	})
}

// drop forgets a station. s.mu is held.
func (s *Station) drop(p *peer) {
	p.close()
	if s.byName[p.Name] == p {
		delete(s.byName, p.Name)
	}
	if s.byMAC[p.MAC] == p {
		delete(s.byMAC, p.MAC)
	}
}

// close ends what serves the connection.
func (p *peer) close() { p.conn.Close() }

// read gives every frame to deliver, until the connection ends.
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

// send sends a frame at once if the socket takes it, else it waits its turn or, if
// too many do, is dropped.
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

// write sends what waits whenever the socket takes it. Nothing is sent any more after it.
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
				return nil // the station has gone
			}
		}
	}
}

// writeOne waits until the first that waits is sent, and says whether there are
// more. It stays in the queue until then, so that none overtakes it.
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
