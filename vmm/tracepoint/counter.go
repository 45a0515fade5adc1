package tracepoint

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Counter counts one thread's passes of a tracepoint.
type Counter struct {
	fd   int
	name string
}

// Open begins to count passes of p by the thread tid. filter is an expression over the tracepoint's fields
// (Documentation/trace/events.rst, "Event filtering"), like "address == 0xfee00000 && data == 0x31"; EINVAL for one
// that the kernel does not understand, ESRCH where there is no such thread.
func (p Point) Open(tid int, filter string) (*Counter, error) {
	c, err := p.open(tid)
	if err != nil {
		return nil, err
	}
	if err := ioctlString(c.fd, unix.PERF_EVENT_IOC_SET_FILTER, filter); err != nil {
		c.Close()
		return nil, &os.PathError{Op: "PERF_EVENT_IOC_SET_FILTER " + filter, Path: c.name, Err: err}
	}
	if err := unix.IoctlSetInt(c.fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		c.Close()
		return nil, &os.PathError{Op: "PERF_EVENT_IOC_ENABLE", Path: c.name, Err: err}
	}
	return c, nil
}

// Hold keeps the tracepoint turned on until the Counter is closed, and counts nothing. The thread is one that has counters, or
// will have.
func (p Point) Hold(tid int) (*Counter, error) { return p.open(tid) }

// open makes a counter that does not count yet.
func (p Point) open(tid int) (*Counter, error) {
	attr := &unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: p.id, Size: uint32(binary.Size(unix.PerfEventAttr{})), Bits: unix.PerfBitDisabled}
	c := &Counter{name: fmt.Sprintf("%s of thread %d", p.name, tid)}
	var err error
	c.fd, err = unix.PerfEventOpen(attr, tid, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	switch err {
	case nil:
		return c, nil
	case unix.EACCES, unix.EPERM:
		return nil, fmt.Errorf("%w (it takes root, CAP_PERFMON or kernel.perf_event_paranoid 1; that is %s)",
			&os.PathError{Op: "perf_event_open", Path: c.name, Err: err}, paranoid())
	}
	return nil, &os.PathError{Op: "perf_event_open", Path: c.name, Err: err}
}

func paranoid() string {
	b, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// Count is how often so far.
func (c *Counter) Count() (uint64, error) {
	var p [8]byte
	if _, err := unix.Read(c.fd, p[:]); err != nil {
		return 0, &os.PathError{Op: "read", Path: c.name, Err: err}
	}
	return binary.NativeEndian.Uint64(p[:]), nil
}

// Close ends the counter, which must not be used any more.
func (c *Counter) Close() error {
	if err := unix.Close(c.fd); err != nil {
		return &os.PathError{Op: "close", Path: c.name, Err: err}
	}
	return nil
}
