package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
	"minivmm/kvm"
)

// serve runs the one command that arrives on the channel.
func serve(p agent.Plan, words cmdline) error {
	port, err := openPort(p.Channel)
	if err != nil {
		return err
	}
	defer port.Close()
	release, err := holdVM(p)
	if err != nil {
		return err
	}
	defer release()
	conn := agent.NewConn(port)
	if err := conn.Send(agent.KindHello, nil); err != nil {
		return err
	}
	taken := make(chan struct{})
	exit := session(conn, p, words, taken)
	if err := conn.SendJSON(agent.KindExit, exit); err != nil {
		return err
	}
	// A power-off may lose the data that is still in the port's ring.
	select {
	case <-taken:
	case <-time.After(exitWait):
		// Do not power off: the launcher would conclude that the command asked for it.
		return errors.New("the command's exit was not read")
	}
	return nil
}

// holdVM keeps one VM open for the whole life of an emulated host if its plan asks for it, and
// returns a function that closes it. KVM patches the scheduler's text when its first VM is created
// and when the last one is closed (preempt_notifier_key). An emulated host with several CPUs can
// crash in the breakpoints of that patching: "Oops: int3" in finish_task_switch.
func holdVM(p agent.Plan) (release func(), err error) {
	if !p.HoldVM {
		return func() {}, nil
	}
	sys, err := kvm.Open()
	if err != nil {
		return nil, err
	}
	defer sys.Close()
	vm, err := sys.CreateVM()
	if err != nil {
		return nil, err
	}
	return func() { vm.Close() }, nil
}

// exitWait is how long the launcher may take to read the last output and the exit.
const exitWait = 30 * time.Second

// openPort waits for the virtio-serial port of that name and for the launcher at its other end. The
// device announces both in control messages, which a kernel worker handles later, so only polling
// is possible.
func openPort(name string) (*os.File, error) {
	var port *os.File
	var err error
	if !poll(20*time.Second, func() bool {
		files, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		at := slices.IndexFunc(files, func(file string) bool { return readWord(file) == name })
		if at < 0 {
			return false
		}
		port, err = os.OpenFile("/dev/"+filepath.Base(filepath.Dir(files[at])), os.O_RDWR, 0)
		if err == nil && !connected(port) {
			port.Close()
			return false
		}
		return true
	}) {
		return nil, fmt.Errorf("no virtio-serial port named %s", name)
	}
	return port, err
}

// connected reports whether the other end is open. Until then, virtio_console reports POLLHUP.
func connected(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Control(func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, 0)
		open = err == nil && n > 0 && fds[0].Revents&unix.POLLHUP == 0
	})
	return err == nil && open
}

// session reads the command, runs it and returns how it ended.
func session(conn *agent.Conn, p agent.Plan, words cmdline, taken chan<- struct{}) agent.Exit {
	failed := func(err error) agent.Exit {
		go receive(conn, nil, taken)
		return agent.Exit{Status: 125, Error: err.Error()}
	}
	kind, payload, err := conn.Receive()
	if err != nil {
		return failed(err)
	}
	var c agent.Command
	if kind != agent.KindRun {
		return failed(fmt.Errorf("frame %q arrived before the command", kind))
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return failed(err)
	}
	if err := settle(p, words); err != nil {
		return failed(err)
	}
	unmount, err := mountShares(c.Shares)
	if err != nil {
		return failed(err)
	}
	isShell := len(c.Argv) == 0
	if c, err = complete(c, p); err != nil {
		return failed(err)
	}
	s, err := newStdio(c.Terminal)
	if err != nil {
		return failed(err)
	}
	if isShell && c.Terminal != nil {
		report(s.theirs[1])
	}
	// Send this before the process starts: without it, the launcher concludes that nothing ran.
	if err := conn.Send(agent.KindStart, nil); err != nil {
		return failed(err)
	}
	pid, err := start(c, s.theirs, c.Terminal != nil)
	s.closeTheirs()
	if err != nil {
		exit := failed(err)
		exit.Status = 127
		return exit
	}
	go s.feed(conn)
	go receive(conn, &running{s, pid}, taken)
	var output sync.WaitGroup
	for kind, f := range s.out {
		output.Go(func() { _ = conn.Copy(kind, f) })
	}
	exit := reap(pid)
	// Once all processes are dead, no writer is left, so the output ends.
	killAll(5 * time.Second)
	output.Wait()
	unmount()
	return exit
}

// running is a command to which frames are sent.
type running struct {
	*stdio
	pid int
}

// receive passes frames on to r, which may be nil. If the channel fails, the launcher is gone, and
// receive kills the command. receive closes taken when the launcher has read the exit or is gone.
func receive(conn *agent.Conn, r *running, taken chan<- struct{}) {
	defer close(taken)
	for {
		kind, payload, err := conn.Receive()
		switch {
		case err != nil && r != nil:
			_ = unix.Kill(-r.pid, unix.SIGKILL)
			return
		case err != nil, kind == agent.KindExitTaken:
			return
		case r == nil:
			continue
		}
		switch kind {
		case agent.KindStdin:
			r.addInput(payload)
		case agent.KindStdinEnd:
			r.endInput()
		case agent.KindResize:
			if len(payload) == 4 {
				r.resize(binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]))
			}
		case agent.KindSignal:
			if len(payload) == 1 {
				_ = unix.Kill(r.pid, unix.Signal(payload[0]))
			}
		}
	}
}
