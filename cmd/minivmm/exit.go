package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/disk"
	"minivmm/guestimages/kernel"
	"minivmm/guestimages/oci"
	"minivmm/vmm"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

// The exit codes, which scripts rely on. The help and docs/configuration.md list them.
const (
	exitPoweredOff = 0
	exitInternal   = 1
	exitUsage      = 2
	exitConfig     = 3
	exitHost       = 4
	exitPermission = 5
	exitBusy       = 6
	exitNoMachine  = 7
	exitRebooted   = 10
	exitCrashed    = 11
	exitKVM        = 12
	exitConsole    = 14
	exitSignal     = 128 // plus the signal's number
)

// exitCodes describes each code for the help.
var exitCodes = [...]struct {
	code    string
	meaning string
}{
	{"0", "the guest powered off"},
	{"1", "internal error"},
	{"2", "usage: unknown flags or arguments, or a flag's value is invalid"},
	{"3", "the configuration file is invalid, or no machine can be built from it"},
	{"4", "the host is not ready: a device node, module, kernel feature, tap, bridge or CPU is missing, or a limit is reached"},
	{"5", "permission denied"},
	{"6", "a resource is busy: a tap, address, disk or name is in use"},
	{"7", "no machine with that name is running"},
	{"10", "the guest rebooted, or reset its first vCPU with INIT"},
	{"11", "the guest crashed: a triple fault, or code that KVM cannot emulate"},
	{"12", "KVM internal error"},
	{"14", "killed at the console with Ctrl-A x"},
	{"128+n", "stopped by signal n, at once or after the grace period"},
}

func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "  %-6s %s\n", e.code, e.meaning)
	}
	return b.String()
}

// exitCode returns the exit code for a command's error. The code depends on the error's type (such
// as the types below) or on its cause.
func exitCode(err error) int {
	var (
		child   childError
		command commandError
		guest   outcomeError
		sig     signalError
		invalid *config.Error
	)
	switch {
	case err == nil:
		return exitPoweredOff
	case is[cleanupError](err):
		return exitInternal
	case errors.As(err, &child):
		return child.code
	case errors.As(err, &command):
		return cmp.Or(command.Code(), exitInternal)
	case errors.As(err, &guest):
		return cmp.Or(outcomeCodes[guest.Outcome], exitInternal)
	case is[*vmm.KVMError](err):
		return exitKVM
	case errors.Is(err, errLeft):
		return exitConsole
	case is[*control.NotRunningError](err):
		return exitNoMachine
	case errors.As(err, &sig):
		return exitSignal + int(sig.Signal)
	case is[usageError](err), is[*config.MisfitError](err), errors.As(err, &invalid) && invalid.FlagsOnly():
		return exitUsage
	case invalid != nil:
		return exitConfig
	case errors.Is(err, fs.ErrPermission): // EACCES, EPERM
		return exitPermission
	case is[fileError](err), is[*vmm.ConfigError](err):
		return exitConfig
	case isAny(err, syscall.EBUSY, syscall.EADDRINUSE):
		return exitBusy
	case isAny(err, errors.ErrUnsupported, syscall.ENODEV, syscall.ENXIO), hostFull(err), missingNode(err):
		return exitHost
	}
	return exitInternal
}

var outcomeCodes = map[vmm.Outcome]int{vmm.Rebooted: exitRebooted, vmm.Crashed: exitCrashed}

// is reports whether an error of type E is in err's tree.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// isAny reports whether err matches one of the targets.
func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// hostFull reports whether the host is out of a resource, or a user's limit or quota is reached.
func hostFull(err error) bool {
	return isAny(err, syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, syscall.ENOMEM, syscall.EAGAIN,
		syscall.EMFILE, syscall.ENFILE)
}

// missingNode reports whether err is about a missing file in /dev or /sys.
func missingNode(err error) bool {
	var pe *fs.PathError
	return errors.Is(err, fs.ErrNotExist) && errors.As(err, &pe) &&
		(strings.HasPrefix(pe.Path, "/dev/") || strings.HasPrefix(pe.Path, "/sys/"))
}

// Errors that classify another error.
type (
	quiet      struct{ error } // not printed: its exit code is enough
	usageError struct{ error } // a mistake on the command line
	fileError  struct{ error } // a user's file that cannot be read or used
	hostError  struct{ error } // something that this host lacks

	// These types have no Unwrap, because their exit code does not depend on the cause.
	cleanupError struct{ error } // resources that could not be released, however the machine stopped
	channelError struct{ error } // the machine was stopped because its command's output could not be written
	childError   struct {        // the exit of the child process that ran the machine
		code int
		error
	}
)

func (e quiet) Unwrap() error        { return e.error }
func (e usageError) Unwrap() error   { return e.error }
func (e fileError) Unwrap() error    { return e.error }
func (e hostError) Unwrap() error    { return e.error }
func (e hostError) Is(as error) bool { return as == errors.ErrUnsupported }
func (e channelError) Error() string { return "the command's output: " + e.error.Error() }

// Errors that say how a machine, or other work, ended.
type (
	outcomeError  struct{ vmm.Outcome }    // the guest stopped without powering off
	cutShortError struct{ outcomeError }   // the guest stopped before its command exited
	commandError  struct{ agent.Exit }     // a command in the guest failed or could not be started
	signalError   struct{ syscall.Signal } // a signal stopped the machine or the work
)

var errLeft = errors.New("killed at the console with Ctrl-A x")

func (e outcomeError) Error() string  { return "the guest " + e.String() }
func (e cutShortError) Unwrap() error { return e.outcomeError }
func (cutShortError) Error() string {
	return "the guest stopped before its command exited; see its console output"
}
func (e commandError) Error() string { return "guest: " + e.Exit.Error }
func (e signalError) Error() string  { return "stopped by signal " + e.Signal.String() }

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

// imageError wraps errors of the guestimages packages so that they get the exit codes above.
func imageError(err error) error {
	switch {
	case hostFull(err), errors.Is(err, syscall.EBUSY): // not the fault of the user's input
		return err
	case errors.Is(err, debian.ErrNoApt):
		return hostError{fmt.Errorf("%w; or import a kernel: minivmm kernel import FILE", err)}
	case is[*debian.ToolError](err):
		return hostError{err}
	case is[*disk.InputError](err), is[*kernel.InputError](err),
		is[oci.InvalidError](err), isAny(err, debian.ErrNotOffered, fs.ErrExist, fs.ErrNotExist):
		return fileError{err}
	}
	return err
}

// sourceError marks err as an error from reading the user's input, unless the host is the cause.
func sourceError(err error) error {
	if err == nil || hostFull(err) {
		return err
	}
	return fileError{err}
}
