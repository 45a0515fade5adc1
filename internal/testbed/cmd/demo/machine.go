package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"minivmm/internal/testbed/transcript"
)

// machine is a running minivmm process. The demo uses the guest's console as a person at a terminal
// would.
type machine struct {
	keyboard io.Writer
	console  *transcript.Transcript
	said     *transcript.Transcript // minivmm's messages
	process  *exec.Cmd
	ended    chan struct{} // closed after err is set
	err      error
}

// startMachine starts minivmm with the example, as a person would. When ctx is done, cmd.Cancel
// presses the guest's power button. If minivmm is still running 20 seconds later, it is killed.
func startMachine(ctx context.Context) (*machine, error) {
	cmd := exec.CommandContext(ctx, program, "run", "--verbose", example)
	keyboard, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	m := &machine{keyboard: keyboard, console: transcript.New(), said: transcript.New(), process: cmd}
	m.ended = make(chan struct{})
	cmd.Stdout, cmd.Stderr = m.console, m.said
	// A terminal's control-C must reach only this program, which then powers the guest off.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = m.pressButton
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		m.err = cmd.Wait()
		m.console.End()
		close(m.ended)
	}()
	return m, nil
}

// pressButton presses the guest's ACPI power button.
func (m *machine) pressButton() error { return m.process.Process.Signal(syscall.SIGTERM) }

// powerOff presses the button and waits for the guest to power off and minivmm to exit with status
// 0.
func (m *machine) powerOff() error {
	if err := m.pressButton(); err != nil {
		return fmt.Errorf("power button: %w", err)
	}
	<-m.ended
	if m.err != nil {
		return fmt.Errorf("minivmm: %w", m.err)
	}
	return nil
}

// The shell's prompt, and the marks that the typed line prints before and after the command. The
// echo of the typed line does not match, because in the typed line quotes split the marks.
var (
	prompt  = regexp.MustCompile(`/ # `)
	begun   = regexp.MustCompile(`\[begin\]\r\n`)
	stopped = regexp.MustCompile(`\[status (\d+)\]\r\n`)
)

// typed returns a shell line that prints [begin], runs the command and then prints [status N].
func typed(command string) string {
	return `echo "[be"gin]; ` + command + `; echo "[sta"tus $?]` + "\n"
}

// start waits for the prompt, types a command and waits until the command starts. When start
// returns, the guest has echoed all typed text, and the console stays silent unless the command
// prints something.
func (m *machine) start(ctx context.Context, command string) error {
	if _, _, err := m.console.Expect(ctx, prompt); err != nil {
		return err
	}
	if _, err := io.WriteString(m.keyboard, typed(command)); err != nil {
		return fmt.Errorf("typing: %w", err)
	}
	_, _, err := m.console.Expect(ctx, begun)
	return err
}

// finish waits until the command has exited and returns its output; a status other than 0 is an
// error.
func (m *machine) finish(ctx context.Context) (string, error) {
	out, match, err := m.console.Expect(ctx, stopped)
	if err != nil {
		return "", err
	}
	out = strings.TrimSpace(strings.ReplaceAll(out, "\r", ""))
	if status, err := strconv.Atoi(match[1]); err != nil || status != 0 {
		return out, fmt.Errorf("a command exited with status %s in the guest: %s", match[1], out)
	}
	return out, nil
}

// run types a command and returns its output.
func (m *machine) run(ctx context.Context, command string) (string, error) {
	err := m.start(ctx, command)
	out := ""
	if err == nil {
		out, err = m.finish(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	return out, nil
}
