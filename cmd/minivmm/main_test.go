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
	"minivmm/vmm/account"
	"minivmm/vmm/control"
)

// The tests run the test binary as the program, with a fake guest whose behavior comes from the
// environment.
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

// pretendGuest is a fake machine whose serial port holds 16 bytes, as a 16550's does. Run
// implements the guest's behaviors.
type pretendGuest struct {
	machine   // nil: the methods missing below are not called
	behaviour string
	name      string
	console   io.Writer
	logf      func(format string, args ...any)
	button    chan struct{}
	fifo      chan byte
	ready     chan struct{}
}

func newPretendGuest(behaviour string, plan vmm.Plan, opt vmm.Options) *pretendGuest {
	return &pretendGuest{behaviour: behaviour, name: string(plan.Name), console: opt.Console, logf: opt.Logf,
		button: make(chan struct{}, 8), fifo: make(chan byte, 16), ready: make(chan struct{}, 1)}
}

func pretend(behaviour string) newMachine {
	return func(plan vmm.Plan, opt vmm.Options) (machine, Input, error) {
		if behaviour == "busy" {
			return nil, nil, fmt.Errorf("net0: %w", &os.PathError{Op: "TUNSETIFF", Path: "/dev/net/tun", Err: syscall.EBUSY})
		}
		g := newPretendGuest(behaviour, plan, opt)
		return g, g, nil
	}
}

func (g *pretendGuest) Ready() <-chan struct{} { return g.ready }
func (g *pretendGuest) About() account.Machine { return account.Machine{Name: g.name} }

func (g *pretendGuest) Close() error {
	if g.behaviour == "stays" {
		return errors.New("close net0: device or resource busy")
	}
	return nil
}

func (g *pretendGuest) PowerButton() error {
	if g.behaviour == "panic at the button" {
		panic("a bug")
	}
	g.button <- struct{}{}
	return nil
}

func (g *pretendGuest) Feed(p []byte) (n int) {
	if g.behaviour == "panic at input" {
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

func (g *pretendGuest) Run(ctx context.Context) (vmm.Outcome, error) {
	stop := func(now bool) {
		if _, _, err := control.Call(g.name, control.Request{Command: control.CommandStop, Now: now}); err != nil {
			panic(err)
		}
	}
	io.WriteString(g.console, "ready\r\n")
	if line, ok := strings.CutPrefix(g.behaviour, "log "); ok {
		g.logf("%s", line)
		return vmm.PoweredOff, nil
	}
	switch g.behaviour {
	case "off", "stays":
		return vmm.PoweredOff, nil
	case "reboot":
		return vmm.Rebooted, nil
	case "crash":
		return vmm.Crashed, nil
	case "broken":
		return 0, &vmm.KVMError{VCPU: 1, Detail: "internal error"}
	case "panic":
		panic("a bug")
	case "panic elsewhere":
		go guard(func() { panic("a bug") })
		<-ctx.Done()
		return vmm.Stopped, nil
	case "panic at the button":
		stop(false)
		<-ctx.Done()
		return vmm.Stopped, nil
	case "polite": // powers off on the power button
		select {
		case <-g.button:
			return vmm.PoweredOff, nil
		case <-ctx.Done():
			return vmm.Stopped, nil
		}
	case "stopped": // requests stop through its control socket; powers off on the power button
		for range 10 { // none of the requests blocks
			stop(false)
		}
		<-g.button
		return vmm.PoweredOff, nil
	case "stopped now":
		stop(true)
		<-ctx.Done()
		return vmm.Stopped, nil
	case "deaf", "early", "panic at input":
		<-ctx.Done()
		return vmm.Stopped, nil
	case "where": // prints its namespaces; powers off on the power button
		io.WriteString(g.console, whereabouts()+"\r\n")
		<-g.button
		return vmm.PoweredOff, nil
	case "flood": // writes 64 MiB, even if nobody reads
		line := []byte(strings.Repeat("x", 1022) + "\r\n")
		for range 64 << 10 {
			g.console.Write(line)
		}
		io.WriteString(g.console, "flooded\r\n")
		return vmm.PoweredOff, nil
	case "echo": // echoes its input, until a q
		for {
			c, err := g.read(ctx)
			if err != nil {
				return vmm.Stopped, nil
			}
			if c == 'q' {
				return vmm.PoweredOff, nil
			}
			g.console.Write([]byte{c})
		}
	}
	return 0, fmt.Errorf("unknown behavior %q of a fake guest", g.behaviour)
}

// programs counts the names from uniqueName.
var programs int

// uniqueName returns a name for a test's machine: names are shared by the whole host.
func uniqueName() string {
	programs++
	return fmt.Sprintf("test-%d-%d", os.Getpid(), programs)
}

// program returns the test binary as minivmm, in a directory with a kernel and a disk.
func program(t *testing.T, guest string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), guestVar+"="+guest, "GORACE=atexit_sleep_ms=0") // a race-checked program delays its exit by one second
	cmd.Dir = t.TempDir()
	named := fmt.Sprintf("name = '%s'\n", uniqueName())
	for name, text := range map[string]string{
		"vmlinuz": "kernel", "disk.img": strings.Repeat("d", 4096), "a,b.img": strings.Repeat("d", 512), "none": strings.Repeat("d", 512),
		"plain.toml": "[boot]\nkernel = 'vmlinuz'\n[[disk]]\npath = 'disk.img'\n",
		"good.toml":  named + "[boot]\nkernel = 'vmlinuz'\n[machine]\nshutdown_timeout = '100ms'\n[[disk]]\npath = 'disk.img'\nbackend = 'inprocess'\n",
		"slow.toml":  named + "[boot]\nkernel = 'vmlinuz'\n[machine]\nshutdown_timeout = '1h'\n",
		"bad.toml":   "[boot]\nkernal = 'vmlinuz'\n[machine]\nvcpus = 0\n",
		"quiet.toml": named + "boot.kernel = 'vmlinuz'\nconsole = { mode = 'file', path = 'console.log' }\n",
	} {
		if err := os.WriteFile(filepath.Join(cmd.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cmd
}
