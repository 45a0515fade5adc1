package vhost

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pidfdThread is PIDFD_THREAD (uapi/linux/pidfd.h, Linux 6.9): a pidfd for any thread, not only for a process's first.
const pidfdThread = unix.O_EXCL

// Watch waits for the end of a worker.
type Watch struct{ f *os.File } // a pidfd, on Go's poller

// Watch returns a Watch for the worker; the caller closes it. A worker ends with its device or its process; without them
// only by a fault of the kernel's, which ends the thread that has it and no other. ErrUnsupported for a kernel thread, and
// before Linux 6.9.
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

// Wait returns nil when the worker has ended, and an error once the Watch is closed. It may be called by one goroutine
// while another calls Close: what ends after Close has returned is not reported.
func (w *Watch) Wait() error {
	conn, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	// A pidfd is readable when its thread has ended, and cannot be read.
	return conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n == 1
	})
}

// Close ends Wait.
func (w *Watch) Close() error { return w.f.Close() }
