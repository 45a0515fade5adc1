package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// limits are those of a container under Docker 25 or containerd 2 and systemd: systemd's default
// for open files, and an unlimited number of processes. The kernel's defaults are too small for
// databases and for small machines: 4096 files, and a number of processes that depends on the
// memory. All other limits are the kernel's.
var limits = map[int]unix.Rlimit{
	unix.RLIMIT_NOFILE: {Cur: 1024, Max: 524288},
	unix.RLIMIT_NPROC:  {Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY},
}

// setLimits sets this process's limits, which the commands that it starts inherit.
func setLimits() error {
	for resource, limit := range limits {
		if err := unix.Setrlimit(resource, &limit); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	return nil
}
