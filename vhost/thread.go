package vhost

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
)

// path returns the worker's folder in /proc.
func (w Worker) path() (string, error) {
	switch {
	case w.TID == 0:
		return "", fmt.Errorf("worker %s is not visible in /proc: %w", w.Comm, errors.ErrUnsupported)
	case w.Kthread:
		return "/proc/" + strconv.Itoa(w.TID), nil
	}
	return "/proc/self/task/" + strconv.Itoa(w.TID), nil
}

func (w Worker) read(name string) (string, error) {
	dir, err := w.path()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(dir + "/" + name)
	return string(b), err
}

// Cgroup returns the worker's cgroup in the unified hierarchy, such as "/" or "/a/b", or "" on a
// host without that hierarchy.
func (w Worker) Cgroup() (string, error) {
	s, err := w.read("cgroup")
	return procfs.UnifiedCgroup(s), err
}

// CPUsAllowed returns the CPUs that the worker may run on, as a list like "0-3,8".
func (w Worker) CPUsAllowed() (string, error) {
	s, err := w.read("status")
	return procfs.Field(s, "Cpus_allowed_list"), err
}

// SetAffinity restricts the worker to the given CPUs (sched_setaffinity(2)). It returns EINVAL if
// none of the CPUs is online and allowed.
func (w Worker) SetAffinity(cpus []int) error {
	dir, err := w.path()
	if err != nil {
		return err
	}
	var set unix.CPUSet
	for _, cpu := range cpus {
		if cpu < 0 || cpu >= len(set)*64 {
			return &os.PathError{Op: "sched_setaffinity", Path: dir, Err: unix.EINVAL}
		}
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(w.TID, &set); err != nil {
		err = &os.PathError{Op: "sched_setaffinity", Path: dir, Err: err}
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w: none of the CPUs is online and allowed", err)
		}
		return err
	}
	return nil
}

// Policy is a scheduling policy (sched(7)).
type Policy uint32

// Policies that a worker can use (uapi/linux/sched.h).
const (
	Other Policy = unix.SCHED_NORMAL // SCHED_OTHER, the default
	FIFO  Policy = unix.SCHED_FIFO   // runs before Other, Batch and Idle, until it sleeps
	RR    Policy = unix.SCHED_RR     // like FIFO, with time slices among equal priorities
	Batch Policy = unix.SCHED_BATCH  // does not preempt the running task
	Idle  Policy = unix.SCHED_IDLE   // only when the CPU is otherwise idle
)

// realtime reports whether the policy uses Priority instead of Nice.
func (p Policy) realtime() bool { return p == FIFO || p == RR }

// Sched holds the scheduling attributes of a thread (sched_setattr(2)).
type Sched struct {
	Policy   Policy
	Nice     int // -20 to 19, for Other and Batch; 0 for all other policies
	Priority int // 1 to 99, for FIFO and RR; 0 for all other policies
}

// String returns the policy in the format of the configuration, and the nice value if it is not 0:
// "other", "batch, nice 5", "fifo:10".
func (s Sched) String() string {
	switch s.Policy {
	case FIFO:
		return fmt.Sprintf("fifo:%d", s.Priority)
	case RR:
		return fmt.Sprintf("rr:%d", s.Priority)
	case Idle:
		return "idle"
	}
	name := "other"
	if s.Policy == Batch {
		name = "batch"
	}
	if s.Nice != 0 {
		name += fmt.Sprintf(", nice %d", s.Nice)
	}
	return name
}

// Sched returns the worker's scheduling attributes (sched_getattr(2)).
func (w Worker) Sched() (Sched, error) {
	dir, err := w.path()
	if err != nil {
		return Sched{}, err
	}
	a, err := unix.SchedGetAttr(w.TID, 0)
	if err != nil {
		return Sched{}, &os.PathError{Op: "sched_getattr", Path: dir, Err: err}
	}
	s := Sched{Policy: Policy(a.Policy)}
	switch {
	case s.Policy.realtime():
		s.Priority = int(a.Priority)
	case s.Policy != Idle:
		s.Nice = int(a.Nice)
	}
	return s, nil
}

// SetSched sets the worker's scheduling attributes (sched_setattr(2)). It returns EINVAL for a
// value out of range and EPERM for one that requires privileges.
func (w Worker) SetSched(s Sched) error {
	dir, err := w.path()
	if err != nil {
		return err
	}
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: uint32(s.Policy), Nice: int32(s.Nice), Priority: uint32(s.Priority)}
	if err := unix.SchedSetAttr(w.TID, &attr, 0); err != nil {
		perr := &os.PathError{Op: "sched_setattr", Path: dir, Err: err}
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%s: %w (requires CAP_SYS_NICE or a higher RLIMIT_%s)", s, perr, s.limit())
		}
		return fmt.Errorf("%s: %w", s, perr)
	}
	return nil
}

// limit returns the name of the resource limit that allows s without privileges.
func (s Sched) limit() string {
	if s.Policy.realtime() {
		return "RTPRIO"
	}
	return "NICE"
}

// pidfdThread is PIDFD_THREAD (uapi/linux/pidfd.h, Linux 6.9). With this flag a pidfd can refer to
// any thread, not only to the first thread of a process.
const pidfdThread = unix.O_EXCL

// Watch waits until a worker exits.
type Watch struct{ f *os.File } // a pidfd, in Go's poller

// Watch returns a Watch for the worker. The caller must call Close. A worker normally exits
// together with its device or its process. The only other cause is a kernel fault (oops), which
// kills just the thread that runs into it. For a kernel thread and before Linux 6.9 the error
// matches errors.ErrUnsupported.
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
// may call Wait while another calls Close; Wait does not report an exit after Close has returned.
func (w *Watch) Wait() error {
	conn, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	// Poll reports a pidfd as readable once its thread has exited, but read(2) fails.
	return conn.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		return err == nil && n == 1
	})
}

// Close closes the Watch and makes Wait return.
func (w *Watch) Close() error { return w.f.Close() }
