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
	wake chan struct{} // holds a token when there may be data to drain
	done chan struct{} // closed when drain returns

	mu      sync.Mutex // guards the fields below; held at most for a copy
	buf     []byte
	start   int // index of the oldest byte
	n       int
	dropped uint64
	err     error // from dst; afterwards all output is dropped
	closed  bool
}

func newRing(dst io.Writer, size int) *ring {
	r := &ring{dst: dst, buf: make([]byte, size), wake: make(chan struct{}, 1), done: make(chan struct{})}
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

// take moves the oldest bytes to chunk; more is false when the drain must stop.
func (r *ring) take(chunk []byte) (n int, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n = copy(chunk[:min(len(chunk), r.n)], r.buf[r.start:])
	r.n -= n
	r.start = (r.start + n) % len(r.buf)
	if r.n == 0 {
		r.start = 0 // an idle ring uses only its first pages
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

// Close waits at most timeout for the pending output to be written. It returns how many bytes were
// lost in total, and the error if writing failed. A drain that is blocked in a write at that time
// remains until the process exits.
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
