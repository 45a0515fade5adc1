package vmm

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// explainFiles adds to an error of a limit of open files the limit, its value and its use, which
// is what is still open when the error has come here.
func explainFiles(err error) error {
	switch {
	case errors.Is(err, unix.EMFILE):
		var l unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
			return err
		}
		return fmt.Errorf("%w (RLIMIT_NOFILE %d: this process has %d files open, and the machine needs more; see rlimits.nofile and ulimit -n)", err, l.Cur, openFiles(int(min(l.Cur, 1<<20))))
	case errors.Is(err, unix.ENFILE):
		used, _, _ := strings.Cut(readText("/proc/sys/fs/file-nr"), "\t")
		return fmt.Errorf("%w (fs.file-max %s: the host has %s files open)", err, readText("/proc/sys/fs/file-max"), used)
	}
	return err
}

// openFiles counts this process's descriptors below limit: without opening a folder, as there is no descriptor for it.
func openFiles(limit int) (n int) {
	for fd := range limit {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			n++
		}
	}
	return n
}

// readText is a small file of the kernel's, or "unknown": a host without files left may have none for it.
func readText(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}
