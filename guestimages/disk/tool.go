package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Installer installs Debian packages on the host. what tells the user what they are needed for.
// debian.Archive's Install is an Installer.
type Installer func(ctx context.Context, what string, packages ...string) error

// sbin are Debian's folders of system programs. They are not in the PATH of users without root.
const sbin = ":/usr/local/sbin:/usr/sbin:/sbin"

// findTool returns the path of a program. If it is missing, findTool first installs its package,
// unless install is nil.
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

// tool describes one run of a program.
type tool struct {
	path string
	args []string
	dir  string
	env  []string
	file *os.File // the program's descriptor 3; may be nil

	unset string    // a variable to remove from the environment; may be empty
	stdin io.Reader // may be nil

	stdout io.Writer     // receives the output; nil: run returns it
	lines  func(string)  // is called with each line of stderr as it is written; may be nil
	grace  time.Duration // between SIGTERM and SIGKILL when the context is canceled; at least 10 s
}

// run runs the program and returns its output. The program has its own process group, so that
// Ctrl-C at the terminal reaches it only through ctx.
func (t tool) run(ctx context.Context) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, t.path, t.args...)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PATH="+os.Getenv("PATH")+sbin)
	cmd.Env = append(cmd.Env, t.env...)
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool { return t.unset != "" && strings.HasPrefix(v, t.unset+"=") })
	cmd.Stdin = t.stdin
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

// exitStatus returns the exit status in an error from run, or -1.
func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// lineWriter calls do for every complete line written to it.
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

// toolError returns an error with the last 10 lines of a program's output. If the host is out of
// space, it wraps the errno.
func toolError(path string, err error, output []byte) error {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
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
