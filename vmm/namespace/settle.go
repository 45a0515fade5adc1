package namespace

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Settle prepares the new namespaces for the program. It is called after Inside has returned true.
func Settle(s Set) error {
	// The process executed from /proc/self/exe is called "exe". A failure affects only the
	// name.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	if s.Mount || s.PID {
		// Mounts made here must not reach the host; mounts made on the host reach this
		// namespace.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("namespaces.mount: %w", &os.PathError{Op: "mount (slave)", Path: "/", Err: err})
		}
	}
	if s.PID {
		// The host's /proc shows the host's process ids, which this process's system calls
		// do not accept.
		if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("namespaces.pid: %w", &os.PathError{Op: "mount", Path: "/proc", Err: err})
		}
	}
	if s.UTS {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return fmt.Errorf("namespaces.uts: %w", os.NewSyscallError("sethostname", err))
		}
	}
	if s.Net == New {
		if err := raiseLoopback(); err != nil {
			return fmt.Errorf("namespaces.net: lo: %w", err)
		}
	}
	return nil
}

// raiseLoopback brings up lo in the new network namespace, with 127.0.0.1.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}
