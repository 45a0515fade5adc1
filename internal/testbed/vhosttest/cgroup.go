package vhosttest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"

	"golang.org/x/sys/unix"
)

// Cgroup is a cgroup (version 2) that a test created.
type Cgroup struct {
	t    testing.TB
	root string // the mount point of the hierarchy

	// Name is the cgroup's name in /proc/PID/cgroup, such as "/minivmm-test-1".
	Name string
}

// NewCgroup creates a cgroup below the root cgroup.
func NewCgroup(t testing.TB) *Cgroup {
	t.Helper()
	root := "/sys/fs/cgroup"
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		root = t.TempDir()
		if err := unix.Mount("none", root, "cgroup2", 0, ""); err != nil {
			t.Fatalf("mount cgroup2: %v", err)
		}
		t.Cleanup(func() { unix.Unmount(root, 0) })
	}
	dir, err := os.MkdirTemp(root, "minivmm-test-")
	if err != nil {
		t.Fatal(err)
	}
	return made(t, root, dir)
}

// Child creates a cgroup in this one.
func (c *Cgroup) Child(name string) *Cgroup {
	c.t.Helper()
	dir := c.Path(name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		c.t.Fatal(err)
	}
	return made(c.t, c.root, dir)
}

func made(t testing.TB, root, dir string) *Cgroup {
	c := &Cgroup{t: t, root: root, Name: strings.TrimPrefix(dir, root)}
	t.Cleanup(func() {
		if !c.Await("cgroup.events", "populated", 0, testenv.Patience) {
			t.Errorf("%s still has tasks after %v", dir, testenv.Patience)
		}
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Path returns the path of a file of the cgroup, or the path of the cgroup's folder if the file is
// "".
func (c *Cgroup) Path(file string) string { return filepath.Join(c.root, c.Name, file) }

// Open opens the cgroup's folder, for use in syscall.SysProcAttr.CgroupFD. The folder is closed
// when the test ends.
func (c *Cgroup) Open() *os.File {
	c.t.Helper()
	dir, err := os.Open(c.Path(""))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { dir.Close() })
	return dir
}

// Write writes one of the cgroup's files.
func (c *Cgroup) Write(file, format string, args ...any) {
	c.t.Helper()
	if err := os.WriteFile(c.Path(file), fmt.Appendf(nil, format, args...), 0); err != nil {
		c.t.Fatal(err)
	}
}

// Read reads one of the cgroup's files, without the final newline.
func (c *Cgroup) Read(file string) string {
	c.t.Helper()
	b, err := os.ReadFile(c.Path(file))
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// Count returns the number after key in one of the cgroup's files. If key is "", the file contains
// only the number.
func (c *Cgroup) Count(file, key string) int64 {
	c.t.Helper()
	value := c.Read(file)
	if key != "" {
		_, rest, ok := strings.Cut("\n"+value, "\n"+key+" ")
		if !ok {
			c.t.Fatalf("%s has no %s", c.Path(file), key)
		}
		value, _, _ = strings.Cut(rest, "\n")
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		c.t.Fatalf("%s: %v", c.Path(file), err)
	}
	return n
}

// Await waits until the number after the key has the wanted value, and returns false if this does
// not happen in time. It works only for files whose changes wake poll(2), such as cgroup.events.
func (c *Cgroup) Await(file, key string, want int64, within time.Duration) bool {
	c.t.Helper()
	f, err := os.Open(c.Path(file))
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}
	for end := time.Now().Add(within); ; {
		if _, err := f.ReadAt(make([]byte, 256), 0); err != nil && err != io.EOF { // later changes wake the poll
			c.t.Fatal(err)
		}
		if c.Count(file, key) == want {
			return true
		}
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			c.t.Fatal(err)
		}
	}
}
