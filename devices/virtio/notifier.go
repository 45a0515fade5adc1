package virtio

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Notifier is an eventfd (eventfd(2)) with a name, which error messages contain.
//
// It is deliberately a plain descriptor: on the kernel's data path an eventfd in Go's poller would
// be a second waiter, woken by every packet. Goroutines wait for a Notifier with [Notifier.Reader]:
// an in-process backend waits for Kick, and the kernel backend waits for a ring's error eventfd.
type Notifier struct {
	fd      int
	name    string
	signals atomic.Uint64 // number of calls of Signal
}

// NewNotifier creates an eventfd with counter 0. An example of a name is "net0-kick-1". The caller
// must close the Notifier.
func NewNotifier(name string) (*Notifier, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, os.NewSyscallError("eventfd2", err))
	}
	return &Notifier{fd: fd, name: name}, nil
}

// FD returns the descriptor, which KVM and vhost take. The Notifier still owns it.
func (n *Notifier) FD() int { return n.fd }

// Name returns the name used in errors.
func (n *Notifier) Name() string { return n.name }

// Signal adds one to the counter. If the counter is full (EAGAIN), the eventfd is already
// signalled.
func (n *Notifier) Signal() error {
	n.signals.Add(1)
	if errno := signal(n.fd); errno != 0 && errno != unix.EAGAIN {
		return &os.PathError{Op: "write", Path: n.name, Err: errno}
	}
	return nil
}

// Drain sets the counter to zero and reports whether it was above zero.
func (n *Notifier) Drain() bool {
	var p [8]byte
	_, err := unix.Read(n.fd, p[:])
	return err == nil
}

// Pending reports whether the counter is above zero, without changing it.
func (n *Notifier) Pending() bool {
	p := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}}
	ready, err := unix.Poll(p, 0)
	return err == nil && ready == 1
}

// Reader returns a second descriptor for the same eventfd, registered with Go's poller. An 8-byte
// Read waits for a signal and resets the counter. The file's SyscallConn can wait without resetting
// the counter. Close or a read deadline ends the wait. The caller closes the file.
func (n *Notifier) Reader() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(n.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "fcntl", Path: n.name, Err: err}
	}
	return os.NewFile(uintptr(fd), n.name), nil
}

// count returns how often the eventfd was signalled since it was last drained or read, without
// changing the counter. ok is false if /proc does not report the count.
//
// The kernel's vhost and package queue wait for an eventfd without reading it. KVM's irqfd does
// read its eventfd, so the count of an eventfd that raises an interrupt is meaningless.
func (n *Notifier) count() (count uint64, ok bool) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", n.fd))
	_, text, _ := strings.Cut(string(b), "eventfd-count:") // fs/eventfd.c, eventfd_show_fdinfo
	_, err := fmt.Sscanf(text, "%x", &count)
	return count, err == nil
}

// Close closes the eventfd. The Notifier must not be used afterwards.
func (n *Notifier) Close() error {
	if err := unix.Close(n.fd); err != nil {
		return &os.PathError{Op: "close", Path: n.name, Err: err}
	}
	return nil
}
