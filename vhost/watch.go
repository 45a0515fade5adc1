package vhost

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// pidfdThread is PIDFD_THREAD (uapi/linux/pidfd.h, Linux 6.9): a pidfd for any thread, not only for a process's first.
const pidfdThread = unix.O_EXCL

// Watch is a wait for a worker's end.
type Watch struct {
	f    *os.File // a pidfd, on Go's poller
	done chan struct{}
}

// Watch calls gone, once and from a goroutine of its own, if the worker ends before the Watch is closed. A worker ends
// with its device or its process; without them only by a fault of the kernel's, which ends the
// thread that has it and no other. ErrUnsupported for a kernel thread, and before Linux 6.9.
func (w Worker) Watch(gone func()) (*Watch, error) {
	if w.Kthread {
		return nil, fmt.Errorf("worker %s is a kernel thread: %w", w.Comm, errors.ErrUnsupported)
	}
	return watchThread(w.TID, gone)
}

func watchThread(tid int, gone func()) (*Watch, error) {
	name := fmt.Sprintf("thread %d", tid)
	fd, err := unix.PidfdOpen(tid, pidfdThread|unix.PIDFD_NONBLOCK)
	if err == unix.EINVAL {
		return nil, fmt.Errorf("%s: pidfd_open with PIDFD_THREAD: %w", name, errors.ErrUnsupported)
	}
	if err != nil {
		return nil, &os.PathError{Op: "pidfd_open", Path: name, Err: err}
	}
	w := &Watch{f: os.NewFile(uintptr(fd), name), done: make(chan struct{})}
	conn, err := w.f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, w.f.Close())
	}
	go func() {
		defer close(w.done)
		// A pidfd is readable when its thread has ended, and cannot be read.
		err := conn.Read(func(fd uintptr) bool {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(p, 0)
			return err == nil && n == 1
		})
		if err == nil {
			gone()
		}
	}()
	return w, nil
}

// Close ends the wait; gone is not called any more when it returns.
func (w *Watch) Close() error {
	err := w.f.Close()
	<-w.done
	return err
}
