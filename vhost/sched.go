package vhost

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

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

// Sched is how a thread is scheduled (sched_setattr(2)).
type Sched struct {
	Policy   Policy
	Nice     int // -20 to 19, for Other and Batch; 0 for the others
	Priority int // 1 to 99, for FIFO and RR; 0 for the others
}

// String returns the policy in the format of the configuration, with a nonzero nice value: "other",
// "batch, nice 5", "fifo:10".
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

// Sched returns how the worker is scheduled, sched_getattr(2).
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

// SetSched changes how the worker is scheduled, sched_setattr(2). EINVAL for a
// value out of range, EPERM for one that requires privileges.
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
