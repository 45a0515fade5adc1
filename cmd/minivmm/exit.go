package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

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

// exitCode returns the exit code for a command's error. The types in ends.go say how a machine
// stopped; other errors are matched by their cause.
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
	case is[usageError](err), errors.As(err, &invalid) && invalid.FlagsOnly():
		return exitUsage
	case is[*config.Error](err):
		return exitConfig
	case errors.Is(err, fs.ErrPermission): // EACCES, EPERM
		return exitPermission
	case is[fileError](err), is[*vmm.ConfigError](err):
		return exitConfig
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EADDRINUSE):
		return exitBusy
	case errors.Is(err, errors.ErrUnsupported), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO), hostFull(err), missingNode(err):
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

// missingNode reports whether err is about a missing file in /dev or /sys.
func missingNode(err error) bool {
	var pe *fs.PathError
	if !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &pe) {
		return false
	}
	return strings.HasPrefix(pe.Path, "/dev/") || strings.HasPrefix(pe.Path, "/sys/")
}
