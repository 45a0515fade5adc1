package main

import (
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/term"
)

// giveBack takes this process's terminal out of raw mode; nil while it is not in raw mode.
var giveBack atomic.Pointer[func()]

// takeTerminal puts the terminal into raw mode until restore is called, which any goroutine may do, any number of times.
func takeTerminal(fd int) (restore func(), err error) {
	state, err := term.MakeRaw(fd)
	if err != nil {
		return nil, fmt.Errorf("raw mode: %w", err)
	}
	restore = sync.OnceFunc(func() {
		giveBack.Store(nil)
		term.Restore(fd, state)
	})
	giveBack.Store(&restore)
	return restore, nil
}

// guard calls f, and gives the terminal back if f panics. Every goroutine of this program starts with it: a panic ends the
// process without the deferred calls of other goroutines.
func guard(f func()) {
	panicked := true
	defer func() {
		if restore := giveBack.Load(); panicked && restore != nil {
			(*restore)()
		}
	}()
	f()
	panicked = false
}
