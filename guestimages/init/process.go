package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// start starts the command with these files. If terminal is set, the files are a terminal, which
// becomes the controlling one.
func start(c agent.Command, files [3]*os.File, terminal bool) (pid int, err error) {
	if len(c.Argv) == 0 {
		return 0, errors.New("no command to run")
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	// exec.LookPath uses the environment and the folder of this process.
	if err := os.Chdir(dir); err != nil {
		return 0, err
	}
	for _, kv := range c.Env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			if err := os.Setenv("PATH", path); err != nil {
				return 0, err
			}
		}
	}
	path, err := exec.LookPath(c.Argv[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return 0, err
	}
	attr := &os.ProcAttr{
		Dir:   dir,
		Env:   c.Env,
		Files: files[:],
		Sys:   &syscall.SysProcAttr{Setsid: true, Setctty: terminal},
	}
	if c.User != "" {
		if err := become(c.User, attr); err != nil {
			return 0, err
		}
	} else {
		attr.Env = withHome(attr.Env, "/")
	}
	if err := setLimits(); err != nil {
		return 0, err
	}
	p, err := os.StartProcess(path, c.Argv, attr)
	if err != nil {
		return 0, err
	}
	pid = p.Pid
	// reap collects all children, so this handle is not waited for.
	return pid, p.Release()
}

// reap collects children, including orphans that init inherits, until the process called main
// exits.
func reap(main int) agent.Exit {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return agent.Exit{Error: fmt.Sprintf("wait4: %v", err), Status: 125}
		case pid == main && ws.Signaled():
			return agent.Exit{Signal: int(ws.Signal())}
		case pid == main:
			return agent.Exit{Status: ws.ExitStatus()}
		}
	}
}

// killAll kills every process but this one and collects the remains. It waits at most limit,
// because a process that is stuck in the kernel would never exit.
func killAll(limit time.Duration) {
	// ESRCH means that there is no other process.
	_ = unix.Kill(-1, unix.SIGKILL)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			_, err := unix.Wait4(-1, nil, 0, nil)
			if err != nil && err != unix.EINTR {
				return
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
