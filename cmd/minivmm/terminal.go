package main

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/term"
)

// restoreTerminal takes the terminal out of raw mode; nil while it is not in raw mode.
var restoreTerminal atomic.Pointer[func()]

// takeTerminal puts the terminal into raw mode until restore is called. restore may be called from
// any goroutine, any number of times.
func takeTerminal(fd int) (restore func(), err error) {
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("raw mode: %w", err)
	}
	restore = sync.OnceFunc(func() {
		restoreTerminal.Store(nil)
		term.Restore(fd, state)
	})
	restoreTerminal.Store(&restore)
	return restore, nil
}

// guard calls f, and restores the terminal if f panics. Every goroutine of this program starts with
// it: a panic ends the process without the deferred calls of other goroutines.
func guard(f func()) {
	panicked := true
	defer func() {
		if restore := restoreTerminal.Load(); panicked && restore != nil {
			(*restore)()
		}
	}()
	f()
	panicked = false
}
