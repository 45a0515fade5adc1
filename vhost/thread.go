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

// Cgroup returns the worker's cgroup in the unified hierarchy, "/" or
// "/a/b"; "" on a host without that hierarchy.
func (w Worker) Cgroup() (string, error) {
	s, err := w.read("cgroup")
	return procfs.UnifiedCgroup(s), err
}

// CPUsAllowed returns the CPUs the worker may run on, as a list like "0-3,8".
func (w Worker) CPUsAllowed() (string, error) {
	s, err := w.read("status")
	return procfs.Field(s, "Cpus_allowed_list"), err
}

// SetAffinity restricts the worker to the given CPUs, sched_setaffinity(2).
// EINVAL if none of them is online and allowed.
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
