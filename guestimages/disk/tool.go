package disk

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Installer installs Debian packages on the host. Messages to the user contain the argument what,
// which names the task that needs the packages. The Install method of debian.Archive is an
// Installer.
type Installer func(ctx context.Context, what string, packages ...string) error

// sbin are Debian's folders of system programs. They are not in the PATH of users without root.
const sbin = ":/usr/local/sbin:/usr/sbin:/sbin"

// findTool returns the path of a program. It installs a missing program, unless the argument
// install is nil.
func findTool(ctx context.Context, install Installer, what, name, pkg string) (string, error) {
	path := lookTool(name)
	if path != "" {
		return path, nil
	}
	if install == nil {
		return "", fmt.Errorf("disk: %s requires %s, which was not found: install package %s: %w", what, name, pkg, errors.ErrUnsupported)
	}
	if err := install(ctx, what, pkg); err != nil {
		return "", fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	if path = lookTool(name); path == "" {
		return "", fmt.Errorf("disk: package %s was installed, but %s is still not found: %w", pkg, name, errors.ErrUnsupported)
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
	*exec.Cmd
	ctx context.Context
}

// newTool prepares a run of the program at path. The program runs in the folder named by dir, or in
// the current folder if dir is "". It has its own process group, so that Ctrl-C at the terminal
// reaches the program only through ctx.
func newTool(ctx context.Context, dir, path string, args ...string) tool {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+sbin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second // then SIGKILL
	return tool{cmd, ctx}
}

// run runs the program and returns its output. If t.Stdout is set, standard output goes only to
// t.Stdout. If t.Stderr is set, standard error goes to t.Stderr and to the result.
func (t tool) run() (stdout, stderr []byte, err error) {
	var out, errs bytes.Buffer
	t.Stdout = cmp.Or[io.Writer](t.Stdout, &out)
	t.Stderr = io.MultiWriter(&errs, cmp.Or(t.Stderr, io.Discard))
	err = t.Run()
	if t.ctx.Err() != nil {
		return nil, nil, context.Cause(t.ctx)
	}
	if err != nil {
		err = toolError(t.Path, err, append(errs.Bytes(), out.Bytes()...))
	}
	return out.Bytes(), errs.Bytes(), err
}

// lineWriter calls its function do for every complete line that is written to the lineWriter.
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

// toolError adds the last 10 lines of the program's output to err. If space on the host or a file
// size limit is exhausted, the returned error wraps the errno.
func toolError(path string, err error, output []byte) error {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	text := strings.Join(lines[max(0, len(lines)-10):], "\n")
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == unix.SIGXFSZ {
			err = unix.EFBIG
		}
	}
	name := filepath.Base(path)
	for _, errno := range []syscall.Errno{unix.ENOSPC, unix.EDQUOT, unix.EFBIG} {
		if strings.Contains(strings.ToLower(text), errno.Error()) {
			return fmt.Errorf("disk: %s: %w\n%s", name, errno, text)
		}
	}
	return fmt.Errorf("disk: %s: %w\n%s", name, err, text)
}
