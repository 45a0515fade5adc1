package main

import (
	"errors"
	"syscall"

	"minivmm/guestimages/agent"
	"minivmm/vmm"
)

// quiet marks an error that is not printed: its exit code is enough.
type quiet struct{ error }

func (q quiet) Unwrap() error { return q.error }

// usageError reports a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// outcomeError reports a guest that stopped without powering off.
type outcomeError struct{ vmm.Outcome }

func (e outcomeError) Error() string { return "the guest " + e.String() }

// cutShortError reports a guest that stopped before its command exited.
type cutShortError struct{ outcomeError }

func (e cutShortError) Unwrap() error { return e.outcomeError }
func (cutShortError) Error() string {
	return "the guest stopped before its command exited; see its console output"
}

// commandError reports a command in the guest that failed or could not be started.
type commandError struct{ agent.Exit }

func (e commandError) Error() string { return "guest: " + e.Exit.Error }

// errLeft reports a machine that the user killed with Ctrl-A x.
var errLeft = errors.New("killed at the console with Ctrl-A x")

// signalError reports a machine, or other work, that a signal stopped.
type signalError struct{ syscall.Signal }

func (e signalError) Error() string { return "stopped by signal " + e.Signal.String() }

// channelError reports a machine that was stopped because its command's output could not be
// written.
type channelError struct{ error }

func (e channelError) Error() string { return "the command's output: " + e.error.Error() }

// cleanupError reports resources of a machine that could not be released, however the machine
// stopped.
type cleanupError struct{ error }

// childError reports the exit of the child process that ran the machine.
type childError struct {
	code int
	error
}

// stopError returns the error of a machine that was stopped for the given cause.
func stopError(cause error) error {
	broken, ok := cause.(channelError)
	switch {
	case !ok:
		return quiet{cause}
	case errors.Is(broken.error, syscall.EPIPE):
		return quiet{signalError{syscall.SIGPIPE}} // the reader went away, as in a pipeline
	}
	return broken
}
