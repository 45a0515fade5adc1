package cgroup

import (
	"context"
	"os"
	"strings"

	"minivmm/internal/flock"

	"golang.org/x/sys/unix"
)

// files is what this package does to cgroupfs.
type files interface {
	read(path string) (string, error)
	write(path, value string) error // one write(2), to a file that exists
	mkdir(path string) error
	rmdir(path string) error
	list(dir string) ([]string, error) // folders in it
	xattr(path, name string) string    // "" if there is none, or it may not be read
	exists(path string) bool

	// lock waits until no other machine has dir locked.
	lock(dir string) (unlock func())
}

// kernel is the real one.
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
	n, err := unix.Getxattr(path, name, b[:])
	if err != nil {
		return ""
	}
	return string(b[:n])
}

func (kernel) exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// lockPatience is more than a machine that ends may need. Who may read a cgroup may
// lock it for ever, and must not keep machines from starting so.
const lockPatience = 2 * emptied

// lock takes flock(2), which the kernel ends with the process. Without it, what
// one machine looks at may be changed by another before it acts.
func (kernel) lock(dir string) (unlock func()) {
	f, err := os.Open(dir)
	if err != nil {
		return func() {} // what is done next says why
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockPatience)
	defer cancel()
	_ = flock.Wait(ctx, f) // see lockPatience
	return func() { f.Close() }
}
