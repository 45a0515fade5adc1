package main

import (
	"io"
	"sync"
	"time"
)

// ringSize is how many bytes a reader of the console may fall behind before output is dropped.
const ringSize = 256 << 10

// ring buffers the console's output: Write never blocks, even if the reader is blocked. When the
// ring is full, the oldest bytes are dropped and counted. One goroutine drains it; the goroutine
// exits after Close once everything is written, or when a write fails.
type ring struct {
	dst  io.Writer
	size int
	done chan struct{} // closed when drain returns

	mu      sync.Mutex // guards the fields below; held at most for a copy
	changed *sync.Cond // signaled by Write and Close
	buf     []byte     // at most size bytes
	dropped uint64
	err     error // from dst; afterwards all output is dropped
	closed  bool
}

func newRing(dst io.Writer, size int) *ring {
	r := &ring{dst: dst, size: size, done: make(chan struct{})}
	r.changed = sync.NewCond(&r.mu)
	go guard(r.drain)
	return r
}

// Write always consumes all of p. It is safe for concurrent use. After Close, p is dropped.
func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.err != nil {
		r.dropped += uint64(len(p))
		return len(p), nil
	}
	r.buf = append(r.buf, p...)
	if over := len(r.buf) - r.size; over > 0 {
		r.dropped += uint64(over)
		r.buf = r.buf[over:]
	}
	r.changed.Signal()
	return len(p), nil
}

// take waits for output and moves the oldest bytes to chunk; 0 means that the drain must stop.
func (r *ring) take(chunk []byte) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.buf) == 0 && !r.closed {
		r.changed.Wait()
	}
	n := copy(chunk, r.buf)
	if r.buf = r.buf[n:]; len(r.buf) == 0 {
		r.buf = nil // an idle ring uses no memory
	}
	return n
}

func (r *ring) drain() {
	defer close(r.done)
	chunk := make([]byte, 4096)
	for {
		n := r.take(chunk)
		if n == 0 {
			return
		}
		if wrote, err := r.dst.Write(chunk[:n]); err != nil {
			r.mu.Lock()
			r.err = err
			r.dropped += uint64(n - wrote + len(r.buf))
			r.buf = nil
			r.mu.Unlock()
			return
		}
	}
}

// Close waits at most timeout for the pending output to be written. It returns how many bytes were
// lost in total, and any write error. A drain that is blocked remains until the process exits.
func (r *ring) Close(timeout time.Duration) (lost uint64, err error) {
	r.mu.Lock()
	r.closed = true
	r.changed.Signal()
	r.mu.Unlock()
	select {
	case <-r.done:
	case <-time.After(timeout):
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped + uint64(len(r.buf)), r.err
}
