package main

import (
	"io"
	"sync"
	"time"
)

// ringSize is how far a reader of the console may fall behind before it loses output.
const ringSize = 256 << 10

// ring is the console's output: Write never waits, whatever the reader at the far end does. When the ring is full the
// oldest bytes are dropped and counted. One goroutine drains it; it ends after Close, when all is written or writing fails.
type ring struct {
	dst  io.Writer
	wake chan struct{} // holds a token when there may be something to drain
	done chan struct{} // closed by the drain at its end

	mu      sync.Mutex // guards what follows; held for a copy at most
	buf     []byte
	start   int // of the oldest byte
	n       int
	dropped uint64
	err     error // of dst; after it everything is dropped
	closed  bool
}

func newRing(dst io.Writer, size int) *ring {
	r := &ring{dst: dst, buf: make([]byte, size), wake: make(chan struct{}, 1), done: make(chan struct{})}
	go guard(r.drain)
	return r
}

// Write takes all of p, always. It may be called from many goroutines, also after Close, which loses p.
func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.err != nil {
		r.dropped += uint64(len(p))
		return len(p), nil
	}
	rest := p
	if over := len(rest) - len(r.buf); over > 0 {
		r.dropped += uint64(over)
		rest = rest[over:]
	}
	if over := r.n + len(rest) - len(r.buf); over > 0 {
		r.dropped += uint64(over)
		r.start = (r.start + over) % len(r.buf)
		r.n -= over
	}
	end := (r.start + r.n) % len(r.buf)
	copied := copy(r.buf[end:], rest)
	copy(r.buf, rest[copied:])
	r.n += len(rest)
	r.signal()
	return len(p), nil
}

func (r *ring) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take moves the oldest bytes to chunk; more is false when the drain is over.
func (r *ring) take(chunk []byte) (n int, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = copy(chunk[:min(len(chunk), r.n)], r.buf[r.start:])
	r.n -= n
	r.start = (r.start + n) % len(r.buf)
	if r.n == 0 {
		r.start = 0 // an idle ring keeps to its first pages
	}
	return n, n > 0 || !r.closed
}

func (r *ring) drain() {
	defer close(r.done)
	chunk := make([]byte, 4096)
	for {
		n, more := r.take(chunk)
		if !more {
			return
		}
		if n == 0 {
			<-r.wake
			continue
		}
		if wrote, err := r.dst.Write(chunk[:n]); err != nil {
			r.mu.Lock()
			r.err = err
			r.dropped += uint64(n - wrote + r.n)
			r.n = 0
			r.mu.Unlock()
			return
		}
	}
}

// Close waits at most timeout for what was written to reach the far end, and returns how many bytes did not, ever, and why when
// the far end refused. A drain that is stuck in a write at that time stays behind until the process ends.
func (r *ring) Close(timeout time.Duration) (lost uint64, err error) {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.signal()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped + uint64(r.n), r.err
}
