package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
)

// environment is the base environment of every command; prepare adds HOME.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=linux"}

// limits are the resource limits of a container under systemd and Docker 25 or containerd 2:
// systemd's default for open files, and an unlimited number of processes. The kernel's defaults are
// 4096 open files, too few for databases, and a number of processes that depends on the memory, too
// few in small guests. All other limits keep the kernel's defaults.
var limits = map[int]unix.Rlimit{
	unix.RLIMIT_NOFILE: {Cur: 1024, Max: 524288},
	unix.RLIMIT_NPROC:  {Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY},
}

// complete fills in the fields that the command c leaves empty. They come from the container image
// on the root disk; Argv may also come from the plan p. The image's environment, user and folder
// apply to any command.
func complete(c agent.Command, p agent.Plan) (agent.Command, error) {
	var image agent.Command
	if err := readJSON(agent.ImagePath, &image); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if len(c.Argv) == 0 {
		c.Argv = image.Argv
	}
	if len(c.Argv) == 0 && p.Command != nil {
		c.Argv = p.Command.Argv
	}
	if len(c.Argv) == 0 {
		return c, errors.New("no command: none was given, and neither " + agent.ImagePath + " nor " + agent.PlanPath + " has one")
	}
	c.Env = slices.Concat(environment, image.Env, c.Env)
	c.Dir = cmp.Or(c.Dir, image.Dir)
	c.User = cmp.Or(c.User, image.User)
	return c, nil
}

// prepare returns a process, not yet started, for the command c, which complete has filled in.
// files are stdin, stdout and stderr. If terminal is true, all three are one terminal, which
// becomes the controlling terminal. If c.Env sets a variable twice, the last value applies.
func prepare(c agent.Command, files [3]*os.File, terminal bool) (*exec.Cmd, error) {
	dir := cmp.Or(c.Dir, "/")
	// exec.LookPath uses the environment and the folder of this process.
	if err := os.Chdir(dir); err != nil {
		return nil, err
	}
	for _, kv := range c.Env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok {
			if err := os.Setenv("PATH", path); err != nil {
				return nil, err
			}
		}
	}
	path, err := exec.LookPath(c.Argv[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return nil, err
	}
	home, attr := "/", &syscall.SysProcAttr{Setsid: true, Setctty: terminal}
	if c.User != "" {
		if attr.Credential, home, err = credentialOf(c.User, os.DirFS("/")); err != nil {
			return nil, err
		}
		giveAway(files[:], int(attr.Credential.Uid))
	}
	return &exec.Cmd{
		Path: path, Args: c.Argv, Dir: dir, Env: slices.Concat([]string{"HOME=" + home}, c.Env),
		Stdin: files[0], Stdout: files[1], Stderr: files[2], SysProcAttr: attr,
	}, nil
}

// start starts a command. Its arguments have the same meaning as those of prepare.
func start(c agent.Command, files [3]*os.File, terminal bool) (pid int, err error) {
	cmd, err := prepare(c, files, terminal)
	if err != nil {
		return 0, err
	}
	for resource, limit := range limits { // sets the limits of this process, which the command inherits
		if err := unix.Setrlimit(resource, &limit); err != nil {
			return 0, os.NewSyscallError("setrlimit", err)
		}
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid = cmd.Process.Pid
	// reap collects all children, so this handle is not waited for.
	return pid, cmd.Process.Release()
}

// reap collects exited children, including inherited orphans, until the process with the id in main
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

// killAll kills every process except this one and waits until they have exited. It waits no longer
// than the given limit, because a process that is stuck in the kernel never exits.
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
