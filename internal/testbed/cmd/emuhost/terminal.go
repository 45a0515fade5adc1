package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"minivmm/guestimages/agent"
)

// terminal is the one that this process was started from. A nil one stands for none.
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

// raw hands every key to the host, control-C included, and follows the window's size until the process ends.
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

// restore gives the terminal back as it was.
func (t *terminal) restore() {
	if t != nil && t.before != nil {
		// Nothing is left to do about a terminal that went away.
		_ = term.Restore(t.fd, t.before)
	}
}
