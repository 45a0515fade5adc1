package main

import (
	"cmp"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// queue buffers bytes between a writer that must not block and one reader.
type queue struct {
	size    int
	mu      sync.Mutex // guards the fields below; held no longer than a copy takes
	changed *sync.Cond // signaled when bytes arrive and when the queue is closed
	buf     []byte     // at most size bytes
	closed  bool
}

func newQueue(size int) *queue {
	q := &queue{size: size}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// take waits for bytes, moves the oldest ones into chunk and returns their number. It returns 0
// once the queue is closed and empty.
func (q *queue) take(chunk []byte) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.buf) == 0 && !q.closed {
		q.changed.Wait()
	}
	n := copy(chunk, q.buf)
	if q.buf = q.buf[n:]; len(q.buf) == 0 {
		q.buf = nil // an idle queue uses no memory
	}
	return n
}

// End closes the queue: no more bytes will follow.
func (q *queue) End() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Signal()
}

// typing is an Input that the console feeds and a channel reads.
type typing struct {
	*queue
	ready chan struct{}
}

// Feed and Ready implement Input.
func (t *typing) Feed(p []byte) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(p), t.size-len(t.buf))
	t.buf = append(t.buf, p[:n]...)
	t.changed.Signal()
	return n
}

func (t *typing) Ready() <-chan struct{} { return t.ready }

// Read implements io.Reader. It blocks until there is input or End is called.
func (t *typing) Read(p []byte) (int, error) {
	n := t.take(p)
	if n == 0 {
		return 0, io.EOF
	}
	select {
	case t.ready <- struct{}{}:
	default:
	}
	return n, nil
}

// ringSize is how many bytes a reader of the console may fall behind before output is dropped.
const ringSize = 256 << 10

// ring buffers the console's output: Write never blocks, even if the reader is blocked. When the
// ring is full, the oldest bytes are dropped and counted. One goroutine drains it; the goroutine
// exits after Close once everything is written, or when a write fails.
type ring struct {
	*queue
	dst     io.Writer
	done    chan struct{} // closed when drain returns
	dropped uint64        // guarded by mu
	err     error         // write error of dst, guarded by mu; once set, all output is dropped
}

func newRing(dst io.Writer, size int) *ring {
	r := &ring{queue: newQueue(size), dst: dst, done: make(chan struct{})}
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

func (r *ring) drain() {
	defer close(r.done)
	chunk := make([]byte, 4096)
	for n := r.take(chunk); n > 0; n = r.take(chunk) {
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
// lost in total, and any write error. If a write blocks, its goroutine remains until the process
// exits.
func (r *ring) Close(timeout time.Duration) (lost uint64, err error) {
	r.End()
	select {
	case <-r.done:
	case <-time.After(timeout):
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped + uint64(len(r.buf)), r.err
}

// logFile is a file to which output is appended. A file that reaches the limit is renamed to
// NAME.1, which replaces an earlier NAME.1, and a new file is started. The two files hold the
// newest output, at most twice the limit. All calls to Write and Close must come from one
// goroutine.
type logFile struct {
	*os.File
	size, limit int64
}

func openLog(name string, limit int64) (*logFile, error) {
	l := &logFile{limit: cmp.Or(limit, 16<<20)}
	return l, l.open(name, 0o600)
}

func (l *logFile) open(name string, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.File, l.size = f, info.Size()
	return nil
}

func (l *logFile) Write(p []byte) (int, error) {
	if l.size > 0 && l.size+int64(len(p)) > l.limit {
		l.rotate()
	}
	n, err := l.File.Write(p)
	l.size += int64(n)
	return n, err
}

// rotate starts a new file. If that fails, as in a directory of another user, rotate truncates the
// old file to keep the limit. Terminals, pipes and other special files have no size and are not
// replaced.
func (l *logFile) rotate() {
	name, old := l.Name(), l.File
	info, err := old.Stat()
	if err != nil || !info.Mode().IsRegular() {
		l.size = 0
		return
	}
	if file, err := filepath.EvalSymlinks(name); err == nil {
		name = file
	}
	// If someone else moved the file, create a new one under the old name and rename nothing.
	if now, statErr := os.Stat(name); statErr == nil && os.SameFile(info, now) {
		err = os.Rename(name, name+".1")
	}
	if err == nil {
		err = l.open(name, info.Mode().Perm())
	}
	if err != nil {
		l.size = 0
		old.Truncate(0)
		return
	}
	old.Close()
}
