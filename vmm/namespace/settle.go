package namespace

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Settle makes the new namespaces fit to live in. Inside has said that this process is in them.
func Settle(s Set) error {
	// What was begun from /proc/self/exe is called "exe". It is only a name.
	_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(os.Args[0])), 0)
	if s.Mount || s.PID {
		// What is mounted here must not reach the host; the other way it does.
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("namespaces.mount: %w", &os.PathError{Op: "mount (slave)", Path: "/", Err: err})
		}
	}
	if s.PID {
		// The host's shows the host's process ids, which mean nothing to this process's system calls.
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

// raiseLoopback gives the new network namespace its 127.0.0.1.
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
