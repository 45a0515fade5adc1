package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Installer installs the Debian packages that the machine lacks; what says, for people, what they are needed for. It is
// debian.Archive's Install.
type Installer func(ctx context.Context, what string, packages ...string) error

// sbin is where Debian keeps what users without root have not in their PATH.
const sbin = ":/usr/local/sbin:/usr/sbin:/sbin"

// findTool returns the path of a program, after installing its package if there is an installer and need be.
func findTool(ctx context.Context, install Installer, what, name, pkg string) (string, error) {
	path := lookTool(name)
	if path != "" {
		return path, nil
	}
	if install == nil {
		return "", fmt.Errorf("disk: %s needs %s (package %s): %w", what, name, pkg, errors.ErrUnsupported)
	}
	if err := install(ctx, what, pkg); err != nil {
		return "", fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	if path = lookTool(name); path == "" {
		return "", fmt.Errorf("disk: package %s is installed, but there is no %s: %w", pkg, name, errors.ErrUnsupported)
	}
	return path, nil
}

func lookTool(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for dir := range strings.SplitSeq(sbin[1:], ":") {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path
		}
	}
	return ""
}

// tool is one run of a program.
type tool struct {
	path string
	args []string
	dir  string
	env  []string
	file *os.File // the program's descriptor 3

	stdout io.Writer     // gets the output; nil: run returns it
	lines  func(string)  // gets each line of stderr as it comes; may be nil
	grace  time.Duration // from SIGTERM to SIGKILL when the context ends
}

// run runs a program in a process group of its own, so that a Ctrl-C at the terminal reaches it only through ctx, and
// returns what it wrote.
func (t tool) run(ctx context.Context) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, t.path, t.args...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+sbin)
	cmd.Env = append(cmd.Env, t.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = max(t.grace, 10*time.Second)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if t.stdout != nil {
		cmd.Stdout = t.stdout
	}
	if t.lines != nil {
		w := &lineWriter{do: t.lines}
		cmd.Stderr = io.MultiWriter(&errs, w)
	}
	if t.file != nil {
		cmd.ExtraFiles = []*os.File{t.file}
	}
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if err != nil {
		err = toolError(t.path, err, append(errs.Bytes(), out.Bytes()...))
	}
	return out.Bytes(), errs.Bytes(), err
}

// exitStatus is the exit status in an error of run's, or -1.
func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// lineWriter calls do for every whole line that is written to it.
type lineWriter struct {
	do   func(string)
	rest []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		w.do(string(line))
		w.rest = rest
	}
}

// toolError is an error with the last lines that a program said. A host without room is told by its errno.
func toolError(path string, err error, said []byte) error {
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	text := strings.Join(lines[max(0, len(lines)-10):], "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == unix.SIGXFSZ {
			err = unix.EFBIG
		}
	}
	name := path[strings.LastIndexByte(path, '/')+1:]
	for _, errno := range []syscall.Errno{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if strings.Contains(strings.ToLower(text), errno.Error()) {
			return fmt.Errorf("disk: %s: %w\n%s", name, errno, text)
		}
	}
	return fmt.Errorf("disk: %s: %w\n%s", name, err, text)
}
