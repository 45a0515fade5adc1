package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"minivmm/vmm"
)

// The tests run this test's own binary as the program, with a guest that behaves as the environment says.
const guestVar = "MINIVMM_TEST_GUEST"

func TestMain(m *testing.M) {
	if behaviour, ok := os.LookupEnv(commandVar); ok {
		os.Exit(executeCommand(behaviour))
	}
	if behaviour, ok := os.LookupEnv(guestVar); ok {
		if behaviour == "early" && os.Getenv("MINIVMM_READY_FD") != "" {
			io.WriteString(os.Stdout, "early\n")
			os.Stdin.Read(make([]byte, 1))
		}
		os.Exit(execute(pretend(behaviour), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// pretendGuest is a machine whose serial port holds 16 bytes, as a 16550 does.
type pretendGuest struct {
	button chan struct{}
	fifo   chan byte
	ready  chan struct{}
	panics string
}

func (g *pretendGuest) PowerButton() {
	if g.panics == "panic at the button" {
		panic("a bug")
	}
	g.button <- struct{}{}
}
func (g *pretendGuest) ConsoleInput() Input    { return g }
func (g *pretendGuest) Ready() <-chan struct{} { return g.ready }

func (g *pretendGuest) Feed(p []byte) (n int) {
	if g.panics == "panic at input" {
		panic("a bug")
	}
	for _, c := range p {
		select {
		case g.fifo <- c:
			n++
		default:
			return n
		}
	}
	return n
}

func (g *pretendGuest) read(ctx context.Context) (byte, error) {
	select {
	case c := <-g.fifo:
		select {
		case g.ready <- struct{}{}:
		default:
		}
		return c, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func pretend(behaviour string) startFunc {
	return func(ctx context.Context, _ vmm.Plan, opt startOptions) (int, error) {
		g := &pretendGuest{button: make(chan struct{}, 8), fifo: make(chan byte, 16), ready: make(chan struct{}, 1), panics: behaviour}
		if behaviour == "early" { // it takes for ever to make
			<-ctx.Done()
			return exitStopped, nil
		}
		opt.Attach(g)
		io.WriteString(opt.Console, "ready\r\n")
		if line, ok := strings.CutPrefix(behaviour, "log "); ok {
			fmt.Fprintln(opt.Log, line)
			return exitPoweredOff, nil
		}
		switch behaviour {
		case "off":
			return exitPoweredOff, nil
		case "reboot":
			return exitRebooted, nil
		case "crash":
			return exitCrashed, errors.New("cpu0: triple fault")
		case "busy":
			return 0, fmt.Errorf("net0: %w", &os.PathError{Op: "TUNSETIFF", Path: "/dev/net/tun", Err: syscall.EBUSY})
		case "panic":
			panic("a bug")
		case "panic elsewhere":
			go guard(func() { panic("a bug") })
			<-ctx.Done()
			return exitStopped, nil
		case "panic at the button":
			opt.Stop(false)
			<-ctx.Done()
			return exitStopped, nil
		case "polite": // powers off when asked
			select {
			case <-g.button:
				return exitPoweredOff, nil
			case <-ctx.Done():
				return exitStopped, nil
			}
		case "stopped": // by its name; powers off when asked
			for range 10 { // as many as like; none waits
				opt.Stop(false)
			}
			<-g.button
			return exitPoweredOff, nil
		case "stopped now":
			opt.Stop(true)
			<-ctx.Done()
			return exitStopped, nil
		case "deaf", "panic at input":
			<-ctx.Done()
			return exitStopped, nil
		case "where": // says where it is, and is polite
			io.WriteString(opt.Console, whereabouts()+"\r\n")
			<-g.button
			return exitPoweredOff, nil
		case "flood": // 64 MiB, whether someone reads or not
			line := []byte(strings.Repeat("x", 1022) + "\r\n")
			for range 64 << 10 {
				opt.Console.Write(line)
			}
			io.WriteString(opt.Console, "flooded\r\n")
			return exitPoweredOff, nil
		case "echo": // what it reads, until a q
			for {
				c, err := g.read(ctx)
				if err != nil {
					return exitStopped, nil
				}
				if c == 'q' {
					return exitPoweredOff, nil
				}
				opt.Console.Write([]byte{c})
			}
		}
		return exitInternal, fmt.Errorf("the test asks for a guest that is %q", behaviour)
	}
}

// program is this binary as minivmm, in a folder with a kernel and a disk.
func program(t *testing.T, guest string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), guestVar+"="+guest, "GORACE=atexit_sleep_ms=0") // a race-checked program exits a second late
	cmd.Dir = t.TempDir()
	for name, text := range map[string]string{
		"vmlinuz": "kernel", "disk.img": strings.Repeat("d", 4096), "a,b.img": strings.Repeat("d", 512), "none": strings.Repeat("d", 512),
		"good.toml":  "[boot]\nkernel = 'vmlinuz'\n[machine]\nshutdown_timeout = '100ms'\n[[disk]]\npath = 'disk.img'\nbackend = 'inprocess'\n",
		"slow.toml":  "[boot]\nkernel = 'vmlinuz'\n[machine]\nshutdown_timeout = '1h'\n",
		"bad.toml":   "[boot]\nkernal = 'vmlinuz'\n[machine]\nvcpus = 0\n",
		"quiet.toml": "boot.kernel = 'vmlinuz'\nconsole = { mode = 'file', path = 'console.log' }\n",
	} {
		if err := os.WriteFile(filepath.Join(cmd.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}
