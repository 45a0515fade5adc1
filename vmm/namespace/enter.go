package namespace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Enter restarts the program, with the same arguments, in the namespaces. It returns only if that
// fails or, for user and pid namespaces, when the child that runs the program has exited. code is
// then the child's exit code, or 128 plus the signal's number if a signal killed it.
func Enter(s Set) (code int, err error) {
	mark, err := s.outer()
	if err != nil {
		return 0, err
	}
	env := append(os.Environ(), marker+"="+mark)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// This thread is never unlocked: no other goroutine may run in the namespaces it
		// entered, and PR_SET_PDEATHSIG is sent when it exits.
		runtime.LockOSThread()
		if err = s.join(); err != nil {
			return
		}
		if s.User || s.PID {
			code, err = s.child(env)
		} else {
			err = s.execute(env)
		}
	}()
	<-ended
	return code, err
}

const self = "/proc/self/exe"

// execute replaces the calling process with the restarted program.
func (s Set) execute(env []string) error {
	if err := unix.Unshare(int(s.flags())); err != nil {
		return s.explain("unshare", err)
	}
	return &os.PathError{Op: "execve", Path: self, Err: unix.Exec(self, os.Args, env)}
}

// join enters an existing network namespace.
func (s Set) join() error {
	if s.Net == "" || s.Net == New {
		return nil
	}
	path := "/run/netns/" + s.Net
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("namespaces.net: %w: network namespace %q does not exist (ip netns add %s)", &os.PathError{Op: "open", Path: path, Err: unix.ENODEV}, s.Net, s.Net)
	}
	if err != nil {
		return fmt.Errorf("namespaces.net: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("namespaces.net: %w (entering a network namespace requires CAP_SYS_ADMIN: run as root, or start minivmm in that namespace)", &os.PathError{Op: "setns", Path: path, Err: err})
	}
	return nil
}

// child runs the program in a child process. It passes on signals to the child and returns the
// child's exit code.
func (s Set) child(env []string) (code int, err error) {
	cmd := exec.Command(self)
	ready, theirs, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ready.Close()
	defer theirs.Close()
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Args, cmd.Env = os.Args, append(env, readyVar+"=3") // the first descriptor after standard error
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: s.flags(), Pdeathsig: syscall.SIGKILL}
	if s.User {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	terminal := inForeground()
	// In a shared process group, a signal to the group would reach the child twice.
	cmd.SysProcAttr.Setpgid = !terminal

	signals := make(chan os.Signal, 16)
	// Never undone: a signal that arrives after the child's exit would kill this process and so
	// replace the child's exit code.
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := cmd.Start(); err != nil {
		return 0, s.explain("clone", err)
	}
	var early syscall.Signal // the first signal that asked the program to exit
	note := func(sig os.Signal) {
		if early == 0 && (sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGHUP) {
			early = sig.(syscall.Signal)
		}
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for running := true; running; {
		select {
		case sig := <-signals:
			note(sig)
			if terminal && (sig == syscall.SIGINT || sig == syscall.SIGQUIT || sig == syscall.SIGHUP) {
				continue // the terminal sent it to the child too
			}
			_ = cmd.Process.Signal(sig) // the child may have exited
		case err = <-exited:
			running = false
		}
	}
	select {
	case sig := <-signals: // from the terminal, which sent it to the child first
		note(sig)
	default:
	}
	called := []unix.PollFd{{Fd: int32(ready.Fd()), Events: unix.POLLIN}}
	if n, _ := unix.Poll(called, 0); early != 0 && n != 1 { // Ready was not called
		// A signal without a handler does not kill the first process of a PID namespace
		// (pid_namespaces(7)); the Go runtime then exits as if it had crashed.
		return 128 + int(early), nil
	}
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return 0, err
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), fmt.Errorf("minivmm in its namespaces: killed by signal %v", status.Signal())
	}
	return status.ExitStatus(), nil
}

// readyVar is the environment variable with the descriptor that Ready writes to.
const readyVar = "MINIVMM_READY_FD"

// Ready notifies the process that waits in Enter, if there is one, that this process now handles
// signals.
func Ready() {
	fd, err := strconv.ParseUint(os.Getenv(readyVar), 10, 16)
	if err != nil {
		return
	}
	os.Unsetenv(readyVar)
	f := os.NewFile(uintptr(fd), "ready")
	_, _ = f.Write([]byte{0}) // fails if the process in Enter has exited
	f.Close()
}

// inForeground reports whether this process is in the foreground process group of its terminal, to
// which the terminal sends signals.
func inForeground() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// Settle prepares the new namespaces for the program. It must be called after Inside has returned
// true.
func Settle(s Set) error {
	// The process executed from /proc/self/exe is called "exe".
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	if s.Mount || s.PID {
		// Mounts made here must not reach the host; those made on the host reach this namespace.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("namespaces.mount: %w", &os.PathError{Op: "mount (slave)", Path: "/", Err: err})
		}
	}
	if s.PID {
		// The host's /proc shows process ids that this process's system calls do not accept.
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("namespaces.pid: %w", &os.PathError{Op: "mount", Path: "/proc", Err: err})
		}
	}
	if s.UTS {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return fmt.Errorf("namespaces.uts: %w", os.NewSyscallError("sethostname", err))
		}
	}
	if s.Net == New {
		if err := raiseLoopback(); err != nil {
			return fmt.Errorf("namespaces.net: lo: %w", err)
		}
	}
	return nil
}

// raiseLoopback brings up lo in the new network namespace, with 127.0.0.1.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}
