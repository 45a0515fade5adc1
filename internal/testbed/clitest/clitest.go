// Package clitest runs a program in a test as a person or a script would: on pipes or on a
// terminal.
package clitest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
)

// Finish runs cmd and returns its exit code and output.
func Finish(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// Code waits until cmd has exited and returns its exit code, or -1 if a signal killed it.
func Code(cmd *exec.Cmd) int {
	cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// Expect reads from r until it has read text.
func Expect(t *testing.T, r io.Reader, text string) {
	t.Helper()
	var got []byte
	c := make([]byte, 1)
	for !bytes.HasSuffix(got, []byte(text)) {
		if _, err := r.Read(c); err != nil {
			t.Fatalf("%v while waiting for %q; got %d bytes, the last %q", err, text, len(got), got[max(0, len(got)-100):])
		}
		got = append(got, c[0])
	}
}

// PTY creates a terminal. The file far is the person's end, and near is the program's end. Both are
// closed when the test ends.
func PTY(t *testing.T) (far, near *os.File) {
	// Only a non-blocking file can have a deadline.
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	far = os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { far.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	far.SetDeadline(time.Now().Add(30 * time.Second))
	near, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	return far, near
}

// Termios returns the settings of a terminal.
func Termios(t *testing.T, f *os.File) unix.Termios {
	t.Helper()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

// NetNS creates the network namespace /run/netns/NAME as `ip netns add` does, and returns the
// target of the namespace's link in /proc/PID/ns. It requires root. The namespace is removed when
// the test ends.
func NetNS(t *testing.T, name string) string {
	t.Helper()
	testenv.Need(t, "root")
	path := "/run/netns/" + name
	if err := errors.Join(os.MkdirAll("/run/netns", 0o755), os.WriteFile(path, nil, 0o444)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(unix.Unmount(path, unix.MNT_DETACH), os.Remove(path)); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	its := fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	link, err := os.Readlink(its)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(its, path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	return link
}

// Eventually polls until ok returns true, for at most testenv.Patience, and returns ok's last
// result. Use it for work that the kernel finishes, without notification, after a process has
// exited.
func Eventually(ok func() bool) bool {
	for deadline := time.Now().Add(testenv.Patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}
