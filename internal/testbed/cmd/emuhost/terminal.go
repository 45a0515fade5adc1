package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"minivmm/guestimages/agent"
)

// terminalSize returns the size of the terminal that this process was started from, or nil if
// standard input or standard output is not a terminal.
func terminalSize() *agent.Terminal {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) || !term.IsTerminal(int(os.Stdout.Fd())) {
		return nil
	}
	cols, rows, err := term.GetSize(in)
	if err != nil {
		return nil
	}
	return &agent.Terminal{Rows: uint16(rows), Cols: uint16(cols)}
}

// takeTerminal puts the terminal in raw mode, so that the host gets every key, including control-C,
// until restore is called. It sends each new size of the window to resized until the process exits.
func takeTerminal() (resized <-chan agent.Terminal, restore func(), err error) {
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return nil, nil, err
	}
	sizes, changed := make(chan agent.Terminal), make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		for range changed {
			if size := terminalSize(); size != nil {
				sizes <- *size
			}
		}
	}()
	// An error of Restore means that the terminal is gone, and there is nothing to restore.
	return sizes, func() { _ = term.Restore(int(os.Stdin.Fd()), before) }, nil
}
