package vhost

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pidfdThread is PIDFD_THREAD (uapi/linux/pidfd.h, Linux 6.9): a pidfd for any thread, not only for
// the first of a process.
const pidfdThread = unix.O_EXCL

// Watch waits until a worker exits.
type Watch struct{ f *os.File } // a pidfd, in Go's poller

// Watch returns a Watch for the worker; the caller must call Close. A worker exits with its device
// or its process. Otherwise it exits only after a kernel fault (oops), which kills just the thread
// that hits it. ErrUnsupported for a kernel thread and before Linux 6.9.
func (w Worker) Watch() (*Watch, error) {
	if w.Kthread {
		return nil, fmt.Errorf("worker %s is a kernel thread: %w", w.Comm, errors.ErrUnsupported)
	}
	return watchThread(w.TID)
}

func watchThread(tid int) (*Watch, error) {
	name := fmt.Sprintf("thread %d", tid)
	fd, err := unix.PidfdOpen(tid, pidfdThread|unix.PIDFD_NONBLOCK)
	if err == unix.EINVAL {
		return nil, fmt.Errorf("%s: pidfd_open with PIDFD_THREAD: %w", name, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, &os.PathError{Op: "pidfd_open", Path: name, Err: err}
	}
	return &Watch{os.NewFile(uintptr(fd), name)}, nil
}

// Wait returns nil when the worker has exited, and an error once the Watch is closed. One goroutine
// may call Wait while another calls Close; an exit after Close returns is not reported.
func (w *Watch) Wait() error {
	conn, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	// A pidfd polls as readable once its thread has exited, but read fails.
	return conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n == 1
	})
}

// Close closes the Watch and makes Wait return.
func (w *Watch) Close() error { return w.f.Close() }
