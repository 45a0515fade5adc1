package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"minivmm/guestimages/agent"
)

// terminal is the terminal that this process was started from. A nil *terminal means that there is
// none.
type terminal struct {
	fd      int
	size    agent.Terminal
	resized chan agent.Terminal
	before  *term.State
}

// openTerminal returns nil unless both standard input and output are a terminal.
func openTerminal() (*terminal, error) {
	in, out := int(os.Stdin.Fd()), int(os.Stdout.Fd())
	if !term.IsTerminal(in) || !term.IsTerminal(out) {
		return nil, nil
	}
	t := &terminal{fd: in, resized: make(chan agent.Terminal)}
	if err := t.measure(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *terminal) measure() error {
	cols, rows, err := term.GetSize(t.fd)
	if err != nil {
		return err
	}
	t.size = agent.Terminal{Rows: uint16(rows), Cols: uint16(cols)}
	return nil
}

// raw puts the terminal in raw mode, so that the host gets every key, including control-C. It
// forwards changes of the window's size until the process exits.
func (t *terminal) raw() error {
	if t == nil {
		return nil
	}
	before, err := term.MakeRaw(t.fd)
	if err != nil {
		return err
	}
	t.before = before
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for range changed {
			cols, rows, err := term.GetSize(t.fd)
			if err == nil {
				t.resized <- agent.Terminal{Rows: uint16(rows), Cols: uint16(cols)}
			}
		}
	}()
	return nil
}

// restore restores the terminal's mode.
func (t *terminal) restore() {
	if t != nil && t.before != nil {
		// An error means that the terminal is gone, and there is nothing to restore.
		_ = term.Restore(t.fd, t.before)
	}
}
