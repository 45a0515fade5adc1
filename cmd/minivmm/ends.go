package main

import (
	"errors"
	"syscall"

	"minivmm/guestimages/agent"
	"minivmm/vmm"
)

// quiet marks an end of which the exit code says all: it is not printed.
type quiet struct{ error }

func (q quiet) Unwrap() error { return q.error }

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// outcomeError is the end of a guest that did not power off.
type outcomeError struct{ vmm.Outcome }

func (e outcomeError) Error() string { return "the guest " + e.String() }

// cutShortError is the end of a guest before that of its command.
type cutShortError struct{ outcomeError }

func (e cutShortError) Unwrap() error { return e.outcomeError }
func (cutShortError) Error() string {
	return "the guest ended before its command did; its console says why"
}

// commandError is the end of a command in the guest that failed or could not be started.
type commandError struct{ agent.Exit }

func (e commandError) Error() string { return "guest: " + e.Exit.Error }

// errLeft is the end of a machine that its user left with Ctrl-A x.
var errLeft = errors.New("left at the console")

// signalError is the end of a machine, or of other work, by a signal.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string { return "ended by signal " + e.Signal.String() }

// channelError is the end of a machine whose command's output could not be passed on.
type channelError struct{ error }

func (e channelError) Error() string { return "the command's output: " + e.error.Error() }

// cleanupError is something of a machine that could not be undone, however the machine ended.
type cleanupError struct{ error }

// childError is the end of the process that ran the machine for this one.
type childError struct {
	code int
	error
}

// stopError is the end of a machine that was stopped, by the cause.
func stopError(cause error) error {
	broken, ok := cause.(channelError)
	switch {
	case !ok:
		return quiet{cause}
	case errors.Is(broken.error, syscall.EPIPE):
		return quiet{signalError{syscall.SIGPIPE}} // its reader went away, as in a pipeline
	}
	return broken
}
