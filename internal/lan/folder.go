package lan

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
)

// folder is the network's open folder.
type folder struct{ *os.File }

// openFolder opens the folder, and creates it if it is missing. It returns an error if another user
// owns the folder (which is possible in /tmp) or can enter it.
func openFolder(path string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat()
	if err == nil && (int(info.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0) {
		err = fmt.Errorf("%s: %w: other users own or can enter it; the folder must belong to you and have mode 0700", path, unix.EPERM)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return &folder{dir}, nil
}

// open opens a file in the folder.
func (d *folder) open(name string, flags int) (*os.File, error) {
	path := filepath.Join(d.Name(), name)
	fd, err := unix.Openat(int(d.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "openat", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// remove removes files in the folder, if they exist.
func (d *folder) remove(names ...string) {
	for _, name := range names {
		unix.Unlinkat(int(d.Fd()), name, 0)
	}
}

// socket returns the path of a socket in the folder. The path fits into a sockaddr_un even if the
// folder's own path is long.
func (d *folder) socket(name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name)
}

const lockWait = 10 * time.Second

// lock locks the folder. It waits at most lockWait for other stations that are joining.
func (d *folder) lock() (*os.File, error) {
	f, err := d.open("lock", unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockWait)
	defer cancel()
	if err = flock.Wait(ctx, f); errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%s: %w%s", f.Name(), unix.EBUSY, holder(f))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// tryLock locks a file. It returns false if another process has locked the file.
func tryLock(f *os.File) (bool, error) {
	err := flock.Try(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// holder returns " (PROCESS)" for the process that has locked a file, or "" if that process is
// unknown.
func holder(f *os.File) string {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) == nil {
		if who, ok := flock.Holder(&st); ok {
			return " (" + who + ")"
		}
	}
	return ""
}
