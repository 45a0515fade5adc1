package main

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
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/agent"
	"minivmm/internal/testbed/clitest"
	"minivmm/vmm"
	"minivmm/vmm/config"
)

// commandVar makes the test binary run a fake guest with a command. Its value selects the behavior.
const commandVar = "MINIVMM_TEST_COMMAND"

// commandProgram returns the test binary as that program.
func commandProgram(t *testing.T, behaviour string) *exec.Cmd {
	cmd := program(t, "")
	cmd.Env = append(cmd.Env, commandVar+"="+behaviour)
	return cmd
}

func executeCommand(behaviour string) int {
	cfg, err := config.Resolve("slow.toml", nil)
	if err != nil {
		panic(err)
	}
	plan, _ := vmm.Resolve(cfg, channelName)
	r := runner{
		cfg: cfg, plan: plan, command: []string{"command"}, build: pretendCommand(behaviour),
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
	}
	err = r.live(context.Background())
	printError(os.Stderr, err)
	return exitCode(err)
}

// pretendCommand creates a fake machine that runs a command. The first word of behaviour selects
// the behavior; the rest, if any, is the payload of the Exit frame that is sent at the end.
func pretendCommand(behaviour string) newMachine {
	return func(plan vmm.Plan, opt vmm.Options) (machine, Input, error) {
		g := newPretendGuest(behaviour, plan, opt)
		return &commandGuest{g, opt.Ports[0].Conn}, g, nil
	}
}

type commandGuest struct {
	*pretendGuest
	port io.ReadWriteCloser
}

func (g *commandGuest) Run(ctx context.Context) (vmm.Outcome, error) {
	defer g.port.Close()
	conn := agent.NewConn(g.port)
	if g.behaviour == "never opens its port" {
		return vmm.PoweredOff, nil
	}
	if kind, _, err := conn.Receive(); err != nil || kind != agent.KindRun {
		return 0, fmt.Errorf("first frame: %q, %v", kind, err)
	}
	_ = conn.Send(agent.KindStart, nil)
	_ = conn.Send(agent.KindStdout, []byte("ready\r\n"))
	what, exit, _ := strings.Cut(g.behaviour, " ")
	switch what {
	case "off":
	case "cat":
		for kind := agent.KindStdin; kind != agent.KindStdinEnd; {
			var payload []byte
			var err error
			if kind, payload, err = conn.Receive(); err != nil {
				return 0, err
			}
			if kind == agent.KindStdin {
				_ = conn.Send(agent.KindStdout, payload)
			}
		}
	case "reboot":
		return vmm.Rebooted, nil
	case "crash":
		return vmm.Crashed, nil
	case "flood", "polite":
		flooded := make(chan struct{})
		go func() {
			defer close(flooded)
			for what == "flood" && conn.Send(agent.KindStdout, make([]byte, agent.MaxData)) == nil {
			}
		}()
		outcome := vmm.PoweredOff
		select {
		case <-g.button:
		case <-ctx.Done():
			outcome = vmm.Stopped
		}
		g.port.Close()
		<-flooded
		return outcome, nil
	}
	if exit != "" {
		taken := make(chan struct{})
		go func() {
			defer close(taken)
			for {
				if kind, _, err := conn.Receive(); err != nil || kind == agent.KindExitTaken {
					return
				}
			}
		}()
		_ = conn.Send(agent.KindExit, []byte(exit))
		select {
		case <-taken:
		case <-ctx.Done():
			return vmm.Stopped, nil
		}
		if what == "rebootafter" {
			return vmm.Rebooted, nil
		}
	}
	return vmm.PoweredOff, nil
}

func TestExitCodeOfTheCommand(t *testing.T) {
	const early = "minivmm: the guest stopped before its command exited; see its console output\n"
	for _, tt := range []struct {
		behaviour string
		code      int
		stderr    string
	}{
		{`off {"status":0}`, 0, ""},
		{`off {"status":3}`, 3, ""},
		{`off {"status":0,"signal":9}`, 137, ""},
		{`off {"status":127,"error":"no such program"}`, 127, "minivmm: guest: no such program\n"},
		{`off {"status":256}`, 1, "minivmm: the command's output: exit message: status 256, signal 0\n"},
		{`rebootafter {"status":0}`, 10, ""},
		{"never opens its port", 1, early},
		{"off", 0, ""},
		{"reboot", 10, early},
		{"crash", 11, early},
	} {
		cmd := commandProgram(t, tt.behaviour)
		code, _, errs := clitest.Finish(t, cmd)
		if code != tt.code || errs != tt.stderr {
			t.Errorf("%s: exit code %d, stderr %q, want %d and %q", tt.behaviour, code, errs, tt.code, tt.stderr)
		}
	}
}

func TestInputAndEOFReachTheCommand(t *testing.T) {
	text := strings.Repeat("0123456789abcdef\x01x\x01", 3000)
	cmd := commandProgram(t, `cat {"status":7}`)
	cmd.Stdin = strings.NewReader(text)
	code, out, errs := clitest.Finish(t, cmd)
	if code != 7 || out != "ready\r\n"+text {
		t.Errorf("exit code %d, %d bytes of output, want %d; %s", code, len(out), len(text)+7, errs)
	}
}

func TestSignalStopsTheGuestOfACommand(t *testing.T) {
	cmd := commandProgram(t, "polite")
	_, errs := begin(t, cmd)
	cmd.Process.Signal(syscall.SIGTERM)
	if got := clitest.Code(cmd); got != 128+15 || strings.Contains(errs.String(), "before its command exited") {
		t.Errorf("exit code %d, stderr %q", got, errs)
	}
}

// TestBlockedReaderDoesNotDelayExit has a command whose output nobody reads, and a guest that is
// asked to power off.
func TestBlockedReaderDoesNotDelayExit(t *testing.T) {
	cmd := commandProgram(t, "flood")
	begin(t, cmd)
	cmd.Process.Signal(syscall.SIGTERM)
	ended := make(chan int, 1)
	go func() {
		state, _ := cmd.Process.Wait()
		ended <- state.ExitCode()
	}()
	select {
	case got := <-ended:
		if got != 128+15 {
			t.Errorf("exit code %d", got)
		}
	case <-time.After(flushTime + 30*time.Second):
		t.Error("the program waits for the reader of its output")
	}
}

func TestClosedReaderStopsTheCommand(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := commandProgram(t, "flood")
	cmd.Stdout = w
	code, _, errs := clitest.Finish(t, cmd)
	w.Close()
	if code != 128+13 || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
}

func TestTerminalIsRestoredAfterACommand(t *testing.T) {
	for _, tt := range []struct {
		name, behaviour string
		act             func(far *os.File, cmd *exec.Cmd)
		code            int
	}{
		{"the command exits", `off {"status":4}`, func(*os.File, *exec.Cmd) {}, 4},
		{"the guest reboots", "reboot", func(*os.File, *exec.Cmd) {}, 10},
		{"Ctrl-A x", "polite", func(far *os.File, _ *exec.Cmd) { io.WriteString(far, "\x01x") }, 14},
		{"Ctrl-A x while the terminal is blocked", "flood", func(far *os.File, _ *exec.Cmd) { io.WriteString(far, "\x01x") }, 14},
		{"a signal", "polite", func(_ *os.File, cmd *exec.Cmd) { cmd.Process.Signal(syscall.SIGTERM) }, 128 + 15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			far, near := clitest.PTY(t)
			before := clitest.Termios(t, near)
			cmd := commandProgram(t, tt.behaviour)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = near, near, near
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			clitest.Expect(t, far, "ready\r\n")
			tt.act(far, cmd)
			if got := clitest.Code(cmd); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			if after := clitest.Termios(t, near); after != before {
				t.Errorf("the terminal was not restored:\nbefore %+v\nafter  %+v", before, after)
			}
		})
	}
}

// TestCommandInTheBackgroundIsNotStopped runs in the background with a pipe as stdout and a
// terminal as stdin.
func TestCommandInTheBackgroundIsNotStopped(t *testing.T) {
	far, near := clitest.PTY(t)
	io.WriteString(far, "for the shell\n")
	exe := commandProgram(t, `off {"status":5}`)
	var out bytes.Buffer
	cmd := exec.Command("/bin/sh", "-mc", `"$@" < /dev/tty | cat & wait $!; echo ended`, "sh", exe.Path)
	cmd.Env, cmd.Dir = exe.Env, exe.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = near, &out, near
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil || !strings.Contains(out.String(), "ready\r\n") {
			t.Errorf("%v, %q", err, out.String())
		}
	case <-time.After(30 * time.Second):
		err := unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		t.Errorf("the program was stopped: %v", errors.Join(err, cmd.Process.Kill()))
	}
}
