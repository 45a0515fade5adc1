package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"minivmm/internal/testbed/clitest"

	"golang.org/x/sys/unix"
)

// begin starts a command with a pipe as its stdout, and waits until its guest is ready.
func begin(t *testing.T, cmd *exec.Cmd) (out *bufio.Reader, errs *bytes.Buffer) {
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs = new(bytes.Buffer)
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	out = bufio.NewReader(pipe)
	clitest.Expect(t, out, "ready\r\n")
	return out, errs
}

func TestSignalsStopAMachine(t *testing.T) {
	for _, tt := range []struct {
		name, guest, file string
		signals           []syscall.Signal
		code              int
		err               string
	}{
		{"a polite guest", "polite", "slow.toml", []syscall.Signal{syscall.SIGTERM}, 0, "terminated: pressed the guest's power button; the guest is killed on a second signal or after 1h0m0s\n"},
		{"an unresponsive guest, after the grace period", "deaf", "good.toml", []syscall.Signal{syscall.SIGTERM}, 128 + 15, "did not power off within 100ms"},
		{"an unresponsive guest, on a second signal", "deaf", "slow.toml", []syscall.Signal{syscall.SIGHUP, syscall.SIGINT}, 128 + 2, "hangup: pressed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := program(t, tt.guest, "run", tt.file)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			clitest.Expect(t, stdout, "ready\r\n")
			r := bufio.NewReader(stderr)
			var said string
			for i, sig := range tt.signals {
				cmd.Process.Signal(sig)
				if i == 0 { // two signals at once may arrive in either order
					said, _ = r.ReadString('\n')
				}
			}
			rest, _ := io.ReadAll(r)
			if got := clitest.Code(cmd); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			if said += string(rest); !strings.Contains(said, tt.err) {
				t.Errorf("stderr is %q, want it to contain %q", said, tt.err)
			}
		})
	}
}

// TestLateSignals checks that signals after the machine has stopped do not change its exit code.
func TestLateSignals(t *testing.T) {
	for range 5 {
		insist(t, program(t, "deaf", "run", "slow.toml"))
	}
}

// insist sends SIGTERM until the program exits. Its guest ignores the power button, so the second
// signal stops it.
func insist(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without the test's terminal, so that only the test sends signals
	_, errs := begin(t, cmd)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for cmd.Process.Signal(syscall.SIGTERM) == nil {
			runtime.Gosched()
		}
	}()
	got := clitest.Code(cmd)
	<-ended
	if got != 128+15 {
		t.Errorf("many SIGTERM: exit code %d, want %d; stderr %s", got, 128+15, errs)
	}
}

func TestInputFromAPipeReachesTheGuestUnchanged(t *testing.T) {
	text := strings.Repeat("0123456789abcdef\x01x\x01", 5000) // escapes are for terminals only
	cmd := program(t, "echo", "run", "good.toml")
	cmd.Stdin = strings.NewReader(text + "q")
	code, out, errs := clitest.Finish(t, cmd)
	if code != 0 || out != "ready\r\n"+text {
		t.Errorf("exit code %d, %d bytes of output, want %d; %s", code, len(out), len(text)+7, errs)
	}
}

func TestEndOfInputDoesNotStopTheMachine(t *testing.T) {
	for name, stdin := range map[string]func(*exec.Cmd){
		"a pipe that ends": func(c *exec.Cmd) { c.Stdin = strings.NewReader("") },
		"/dev/null":        func(c *exec.Cmd) { c.Stdin = nil },
		"closed": func(c *exec.Cmd) {
			c.Args = append([]string{"sh", "-c", `exec "$@" <&-`, "sh"}, append([]string{c.Path}, c.Args[1:]...)...)
			c.Path = "/bin/sh"
		},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := program(t, "polite", "run", "slow.toml")
			stdin(cmd)
			_, errs := begin(t, cmd)
			cmd.Process.Signal(syscall.SIGTERM)
			if got := clitest.Code(cmd); got != 0 {
				t.Errorf("exit code %d: %s", got, errs)
			}
		})
	}
}

func TestABlockedReaderDoesNotBlockTheGuest(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := program(t, "flood", "run", "good.toml")
	cmd.Stdout = w
	code, _, errs := clitest.Finish(t, cmd) // nobody reads
	w.Close()
	if code != 0 || !strings.Contains(errs, "bytes of output were dropped: the reader was too slow") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	if most := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; most > 56<<10 {
		t.Errorf("the program used %d kB of memory for 64 MiB of output that nobody read", most)
	}
}

func TestAReaderGetsTheNewestOutput(t *testing.T) {
	cmd := program(t, "flood", "run", "good.toml")
	got, out, errs := clitest.Finish(t, cmd)
	if got != 0 || !strings.HasSuffix(out, "flooded\r\n") {
		t.Errorf("exit code %d, the end is %q, stderr %q", got, out[max(0, len(out)-20):], errs)
	}
}

func TestAClosedReaderDoesNotStopTheMachine(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := program(t, "flood", "run", "good.toml")
	cmd.Stdout = w
	code, _, errs := clitest.Finish(t, cmd)
	w.Close()
	if code != 0 || !strings.Contains(errs, "broken pipe") {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
}

func TestTerminalIsRawAndRestored(t *testing.T) {
	for _, tt := range []struct {
		name, guest string
		act         func(t *testing.T, far *os.File, cmd *exec.Cmd)
		code        int
	}{
		{"the guest powers off", "echo", func(t *testing.T, far *os.File, _ *exec.Cmd) {
			io.WriteString(far, "\x03\x1a\x01\x01z") // Ctrl-C and Ctrl-Z go to the guest
			clitest.Expect(t, far, "\x03\x1a\x01z")
			io.WriteString(far, "q")
		}, 0},
		{"Ctrl-A x", "echo", func(t *testing.T, far *os.File, _ *exec.Cmd) { io.WriteString(far, "\x01x") }, 14},
		{"Ctrl-A h, then Ctrl-A x", "echo", func(t *testing.T, far *os.File, _ *exec.Cmd) {
			io.WriteString(far, "\x01h")
			clitest.Expect(t, far, "Ctrl-A h       print this help\r\n")
			io.WriteString(far, "\x01x")
		}, 14},
		{"Ctrl-A x with a guest that reads no input", "deaf", func(t *testing.T, far *os.File, _ *exec.Cmd) {
			for range 100 { // more than a serial port and the terminal hold
				io.WriteString(far, strings.Repeat("x", 1000))
			}
			io.WriteString(far, "\x01x")
		}, 14},
		{"a signal", "deaf", func(t *testing.T, far *os.File, cmd *exec.Cmd) {
			cmd.Process.Signal(syscall.SIGTERM)
			clitest.Expect(t, far, "or after 100ms\r\n")
		}, 128 + 15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			far, near := clitest.PTY(t)
			before := clitest.Termios(t, near)
			cmd := program(t, tt.guest, "run", "good.toml")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = near, near, near
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			clitest.Expect(t, far, "ready\r\n")
			during := clitest.Termios(t, near)
			if during.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 || during.Oflag&unix.OPOST != 0 {
				t.Errorf("the terminal is not raw: %+v", during)
			}
			tt.act(t, far, cmd)
			if got := clitest.Code(cmd); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			if after := clitest.Termios(t, near); after != before {
				t.Errorf("the terminal was not restored:\nbefore %+v\nafter  %+v", before, after)
			}
		})
	}
}

func TestAPanicRestoresTheTerminal(t *testing.T) {
	for _, guest := range []string{"panic", "panic elsewhere", "panic at the button", "panic at input"} {
		far, near := clitest.PTY(t)
		io.WriteString(far, "x\n")
		before := clitest.Termios(t, near)
		cmd := program(t, guest, "run", "good.toml")
		cmd.Stdin, cmd.Stdout = near, near
		code, _, errs := clitest.Finish(t, cmd)
		if code != 2 || !strings.Contains(errs, "panic: a bug") {
			t.Errorf("%s: exit code %d, stderr %q", guest, code, errs)
		}
		if after := clitest.Termios(t, near); after != before {
			t.Errorf("%s: the terminal was not restored:\nbefore %+v\nafter  %+v", guest, before, after)
		}
	}
}

func TestABlockedTerminalDoesNotBlockTheGuest(t *testing.T) {
	_, near := clitest.PTY(t) // nobody reads at the far end
	before := clitest.Termios(t, near)
	cmd := program(t, "flood", "run", "good.toml")
	cmd.Stdin, cmd.Stdout = near, near
	began := time.Now()
	code, _, errs := clitest.Finish(t, cmd)
	if code != 0 || !strings.Contains(errs, "dropped") || time.Since(began) > flushTime+20*time.Second {
		t.Errorf("exit code %d after %v, stderr %q", code, time.Since(began), errs)
	}
	if after := clitest.Termios(t, near); after != before {
		t.Errorf("the terminal was not restored:\nbefore %+v\nafter  %+v", before, after)
	}
}

func TestTerminalIsUntouchedInTheBackground(t *testing.T) {
	far, near := clitest.PTY(t)
	exe := program(t, "off", "run", "good.toml")
	// A shell with job control, which holds the terminal while its child runs in the background.
	cmd := exec.Command("/bin/sh", "-mc", `"$@" & wait $!; echo "code $?"`, "sh", exe.Path, "run", "good.toml")
	cmd.Env, cmd.Dir = exe.Env, exe.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = near, near, near
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	clitest.Expect(t, far, "code 0\r\n")
	cmd.Wait()
}
