// Package sandbox gives up rights that the process of a running VM does not need.
package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process protects the calling process:
//
//   - It is not dumpable (PR_SET_DUMPABLE): processes of the same user can neither trace the
//     process nor read its memory, and /proc/PID belongs to root.
//   - It leaves no core file (RLIMIT_CORE), which would contain the guest's memory. If core_pattern
//     is a pipe, the kernel ignores the limit but not PR_SET_DUMPABLE (fs/coredump.c).
//   - It gains no privileges by execve(2) (PR_SET_NO_NEW_PRIVS).
//
// An unprivileged process cannot undo the core limit and PR_SET_NO_NEW_PRIVS, and programs that it
// executes inherit both. execve(2) undoes PR_SET_DUMPABLE, and the process itself can undo it with
// prctl(2). A program that was built with cgo sets PR_SET_NO_NEW_PRIVS for the calling thread only.
func Process() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return os.NewSyscallError("PR_SET_DUMPABLE", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("RLIMIT_CORE: %w", os.NewSyscallError("setrlimit", err))
	}
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno == unix.ENOTSUP { // with cgo
		return noNewPrivs()
	}
	if errno != 0 {
		return os.NewSyscallError("PR_SET_NO_NEW_PRIVS", errno)
	}
	return nil
}

func noNewPrivs() error {
	return os.NewSyscallError("PR_SET_NO_NEW_PRIVS", unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
}

// Thread takes all capabilities from the calling thread for good, including those that execve(2)
// could give back (the bounding set). A thread that the kernel copies from the calling thread, such
// as a vhost worker, has no capabilities either. The user ID stays: a thread of root still owns
// root's files.
//
// The calling goroutine must be locked to its thread and never unlocked. The Go runtime clones no
// thread from a locked one.
func Thread() error {
	if err := noNewPrivs(); err != nil {
		return err
	}
	// Dropping from the bounding set requires CAP_SETPCAP, so this loop runs before capset(2).
	// Without CAP_SETPCAP the bounding set stays, but PR_SET_NO_NEW_PRIVS keeps execve(2) from
	// granting its capabilities.
	for c := range uintptr(64) {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) { // beyond the last capability; not allowed
			break
		}
		if err != nil {
			return os.NewSyscallError("PR_CAPBSET_DROP", err)
		}
	}
	// Capabilities that are no longer permitted also leave the ambient set (security/commoncap.c).
	var none [2]unix.CapUserData
	return os.NewSyscallError("capset", unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]))
}
