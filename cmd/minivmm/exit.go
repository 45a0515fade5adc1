package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"minivmm/vmm"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

// The exit codes: a promise to scripts, in the help and in docs/configuration.md.
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

	// exitStopped is no exit code: a start function returns it when the machine ended because its context did.
	exitStopped = -1
)

// exitCodes says what each code means.
var exitCodes = [...]struct {
	code    string
	meaning string
}{
	{"0", "the guest powered off"},
	{"1", "internal error"},
	{"2", "usage: unknown flags or arguments, or a flag's value is invalid"},
	{"3", "the configuration file is invalid, or no machine can be made of it"},
	{"4", "the host is not ready: a device node, module, kernel feature, tap, bridge or CPU is missing, or a limit is reached"},
	{"5", "permission denied"},
	{"6", "a resource is busy: a tap, address, disk or name is in use"},
	{"7", "no machine of that name is running"},
	{"10", "the guest rebooted, or reset its first vCPU with INIT"},
	{"11", "the guest crashed: a triple fault, or code that KVM cannot emulate"},
	{"12", "KVM internal error"},
	{"14", "ended at the console with Ctrl-A x"},
	{"128+n", "ended by signal n, at once or after the grace period"},
}

func exitHelp() string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "  %-6s %s\n", e.code, e.meaning)
	}
	return b.String()
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitCode is the code for an error that came without one.
func exitCode(err error) int {
	var usage usageError
	var file fileError
	var invalid *config.Error
	var impossible *vmm.ConfigError
	var sig signalError
	var notRunning *control.NotRunningError
	switch {
	case err == nil:
		return exitPoweredOff
	case errors.As(err, &notRunning):
		return exitNoMachine
	case errors.As(err, &sig):
		return exitSignal + int(sig.Signal)
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &invalid) && invalid.FlagsOnly():
		return exitUsage
	case errors.As(err, &invalid):
		return exitConfig
	case errors.Is(err, fs.ErrPermission): // EACCES, EPERM
		return exitPermission
	case errors.As(err, &file), errors.As(err, &impossible):
		return exitConfig
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EADDRINUSE):
		return exitBusy
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO), hostFull(err), missingNode(err):
		return exitHost
	}
	return exitInternal
}

// missingNode reports whether err is about a file of the kernel's that is not there.
func missingNode(err error) bool {
	var pe *fs.PathError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &pe) {
		return false
	}
	return strings.HasPrefix(pe.Path, "/dev/") || strings.HasPrefix(pe.Path, "/sys/")
}
