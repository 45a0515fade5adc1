package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
	"minivmm/internal/procfs"
)

// files is the set of operations on cgroupfs that this package needs.
type files interface {
	read(path string) (string, error)
	write(path, value string) error // one write(2), to a file that exists
	mkdir(path string) error
	rmdir(path string) error
	list(dir string) ([]string, error) // the names of the folders in dir
	xattr(path, name string) string    // "" if the attribute does not exist or is not readable

	// lock keeps other minivmm processes from changing the cgroup dir between a check and the
	// action that relies on that check.
	lock(dir string) (unlock func())
}

// kernel implements files on the real cgroupfs.
type kernel struct{}

func (kernel) read(path string) (string, error) {
	b, err := os.ReadFile(path)
	return strings.TrimSuffix(string(b), "\n"), err
}

func (kernel) write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(value)
	return err
}

func (kernel) mkdir(path string) error { return os.Mkdir(path, 0o755) }

func (kernel) rmdir(path string) error {
	if err := unix.Rmdir(path); err != nil {
		return &os.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}

func (kernel) list(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, e.Name())
		}
	}
	return dirs, err
}

func (kernel) xattr(path, name string) string {
	var b [16]byte
	n, _ := unix.Getxattr(path, name, b[:])
	return string(b[:max(n, 0)])
}

// lock takes a flock(2). It waits longer than a stopping VM may hold the lock, but not forever: any
// user who can read a cgroup can lock it, and such a lock must not prevent VMs from starting.
func (kernel) lock(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {} // the next operation reports the cause
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*emptied)
	defer cancel()
	_ = flock.Wait(ctx, f)
	return func() { f.Close() }
}

// host is what this package knows about the host and about this process.
type host struct {
	files
	mount   string // the mount point of the version 2 hierarchy
	home    string // the process's cgroup below mount: "/" or "/a/b"
	uid     int
	systemd bool   // systemd manages the hierarchy
	scope   string // the unit that startScope made; "" if none

	// startScope asks the system's systemd (for root) or the user's systemd for a scope that
	// contains this process and is delegated to its user. If slice is "", systemd chooses the
	// slice. startScope returns the process's new cgroup. If the unit exists already, the error
	// matches fs.ErrExist.
	startScope func(unit, slice string) (home string, err error)
}

// findHost reads /proc of this process.
func findHost() (host, error) {
	// Only the host's own root may use the whole hierarchy.
	h := host{files: kernel{}}
	h.uid, _ = procfs.UserAbove(os.Geteuid())
	own, err := h.read("/proc/self/cgroup")
	if err != nil {
		return h, err
	}
	_, err = os.Lstat("/run/systemd/system") // sd_booted(3)
	h.systemd = err == nil
	if h.mount, h.home, err = procfs.FindCgroup(procfs.UnifiedCgroup(own)); errors.Is(err, errors.ErrUnsupported) {
		err = fmt.Errorf("%w, and cgroup version 1 has no such limits (boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none /sys/fs/cgroup)", err)
	}
	return h, err
}
