package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// machine is a running minivmm.
type machine struct {
	*console
	cmd    *exec.Cmd
	others []string      // VMs that existed before, see listVMs
	said   *transcript   // minivmm's messages
	ended  chan struct{} // closed after err is set
	err    error
}

// patience limits the time of the whole run. A busy emulated host needs a fraction of it.
const patience = 20 * time.Minute

// startMachine runs the example as a person would. When ctx is done, the guest is stopped.
func startMachine(ctx context.Context) (*machine, error) {
	m := &machine{said: &transcript{}, ended: make(chan struct{})}
	var err error
	if m.others, err = listVMs(kvmFolder); err != nil {
		return nil, err
	}
	m.cmd = exec.CommandContext(ctx, program, "run", "--verbose", example)
	keyboard, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	m.console = newConsole(keyboard)
	m.cmd.Stdout, m.cmd.Stderr = m.console, m.said
	// A terminal's control-C must reach only this program, which then stops the guest in order.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	m.cmd.Cancel = m.pressButton
	m.cmd.WaitDelay = 20 * time.Second
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		m.err = m.cmd.Wait()
		m.console.end()
		close(m.ended)
	}()
	return m, nil
}

// process returns minivmm's folder in /proc.
func (m *machine) process() string { return filepath.Join("/proc", strconv.Itoa(m.cmd.Process.Pid)) }

// pressButton presses the guest's ACPI power button.
func (m *machine) pressButton() error { return m.cmd.Process.Signal(syscall.SIGTERM) }

// powerOff presses the button and waits for the guest to power off and minivmm to exit with status
// 0.
func (m *machine) powerOff(ctx context.Context) error {
	if err := m.pressButton(); err != nil {
		return fmt.Errorf("power button: %w", err)
	}
	select {
	case <-m.ended:
	case <-ctx.Done():
		return fmt.Errorf("the guest did not power off: %w", context.Cause(ctx))
	}
	if m.err != nil {
		return fmt.Errorf("minivmm: %w", m.err)
	}
	return nil
}

// end makes sure that minivmm has exited.
func (m *machine) end() {
	select {
	case <-m.ended:
		return
	default:
	}
	// minivmm may have exited meanwhile.
	_ = m.pressButton()
	select {
	case <-m.ended:
	case <-time.After(20 * time.Second):
		_ = m.cmd.Process.Kill()
		<-m.ended
	}
}

// explain adds minivmm's messages to an error.
func (m *machine) explain(err error) error {
	if said := m.said.String(); err != nil && said != "" {
		return errors.Join(err, fmt.Errorf("output of minivmm:\n%s", said))
	}
	return err
}

// transcript records text that one goroutine writes and others read.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

var _ io.Writer = (*transcript)(nil)

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
