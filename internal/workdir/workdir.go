// Package workdir creates work folders, in which files are created before they are renamed to their
// final place. Each work folder is locked by flock(2) while its process runs, so another process
// can distinguish leftovers of dead processes from folders in use.
//
// Only the owner of a work folder can enter it. Claim rejects a folder that another user has
// created, perhaps to redirect writes through links or to read the files. All functions are safe
// for concurrent use, also by several processes.
package workdir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"minivmm/internal/flock"

	"golang.org/x/sys/unix"
)

// Suffix is the suffix of the names of work folders in folders with other files.
const Suffix = ".minivmm-build"

// Dir is a work folder. Completed files are renamed out of it, and Close removes the rest.
type Dir struct {
	Path string
	lock *os.File
}

// Temp creates a work folder inside the folder named by the argument in. The work folder's name
// starts with a dot and ends with Suffix. The caller must call Close.
func Temp(in string) (*Dir, error) {
	for {
		path, err := os.MkdirTemp(in, ".*"+Suffix)
		if err != nil {
			return nil, err
		}
		d, err := own(path)
		if err == nil {
			return d, nil
		}
		// Another process swept the new folder before own locked it.
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(err, os.Remove(path))
		}
	}
}

// Claim creates a work folder at path. If a dead process has left a folder there, Claim takes it
// over and empties it. The error matches EWOULDBLOCK if another process uses the folder. The caller
// must call Close.
func Claim(path string) (*Dir, error) {
	for {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		d, err := own(path)
		if errors.Is(err, os.ErrNotExist) { // swept by another process before it was locked
			continue
		}
		if err != nil {
			return nil, err
		}
		left, err := os.ReadDir(path)
		for _, e := range left {
			err = errors.Join(err, os.RemoveAll(filepath.Join(path, e.Name())))
		}
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		return d, nil
	}
}

// Close removes the folder and its remaining contents.
func (d *Dir) Close() error {
	return errors.Join(os.RemoveAll(d.Path), d.lock.Close())
}

// Sweep removes the work folders of dead processes from the folder named by the argument in. It
// keeps the work folders of other users. It also keeps empty work folders, because their creators
// may be about to lock them.
func Sweep(in string) error {
	names, err := os.ReadDir(in)
	if errors.Is(err, os.ErrPermission) { // files can still be created in the folder
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range names {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), Suffix) {
			continue
		}
		path := filepath.Join(in, e.Name())
		if left, err := os.ReadDir(path); err != nil || len(left) == 0 {
			continue
		}
		d, err := own(path)
		if err == nil {
			err = d.Close()
		}
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	return nil
}

// Sync writes a file to disk (fsync), or the whole file system of a folder (syncfs). Call it before
// a rename to the final name, so that the file is complete even after a power loss.
func Sync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		return f.Sync()
	}
	return unix.Syncfs(int(f.Fd()))
}

// own locks the folder at path and gives only this user access. It returns os.ErrPermission if the
// folder belongs to another user, and os.ErrNotExist if path no longer names the locked folder.
func own(path string) (_ *Dir, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	locked, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if int(locked.Sys().(*syscall.Stat_t).Uid) != os.Geteuid() {
		return nil, &os.PathError{Op: "claim another user's folder", Path: path, Err: os.ErrPermission}
	}
	if err := flock.Try(f); err != nil {
		return nil, err
	}
	named, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !os.SameFile(locked, named) {
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
	}
	return &Dir{path, f}, f.Chmod(0o700)
}
