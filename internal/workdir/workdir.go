// Package workdir makes the folders in which things are made before they are renamed to their place whole. Each is locked
// by flock(2) as long as its process lives, so the next one can tell what the dead left from what the living make.
//
// Only its owner may enter a folder. One that another user put at a name that is claimed, to have its files written
// through links or read, is refused. All functions may be called by any number of goroutines and processes.
package workdir

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"minivmm/internal/flock"

	"golang.org/x/sys/unix"
)

// Suffix ends the names of work folders that lie beside other files.
const Suffix = ".minivmm-build"

// Dir is a work folder. Whatever is whole is renamed out of it, and Close removes the rest.
type Dir struct {
	Path string
	lock *os.File
}

// Temp makes a folder in the folder in, under a name that begins with a dot and ends with Suffix.
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
		// Another process swept it before it was locked.
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(err, os.Remove(path))
		}
	}
}

// Claim makes the folder path, or takes over the one that a process which died left there, and empties it. While another
// process has it the error is EWOULDBLOCK.
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

// Close removes the folder and what is left in it.
func (d *Dir) Close() error {
	return errors.Join(os.RemoveAll(d.Path), d.lock.Close())
}

// Sweep removes from the folder in the work folders of processes that died. Those of other users stay, and so do empty ones:
// they may be about to be locked.
func Sweep(in string) error {
	names, err := os.ReadDir(in)
	if errors.Is(err, os.ErrPermission) { // one may make files in it all the same
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

// Sync brings the file path, or a folder with all in it, to the disk. It is for what gets its name next and is not looked at
// again: that must be whole after a loss of power too.
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

// own locks a folder and makes sure that it is this user's alone, and still the one of that name: if not, the error is
// fs.ErrPermission or fs.ErrNotExist.
func own(path string) (*Dir, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := check(f); err != nil {
		f.Close()
		return nil, err
	}
	return &Dir{path, f}, nil
}

func check(f *os.File) error {
	var locked, named unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &locked); err != nil {
		return &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	if int(locked.Uid) != os.Geteuid() {
		return &os.PathError{Op: "claim another user's folder", Path: f.Name(), Err: os.ErrPermission}
	}
	if err := flock.Try(f); err != nil {
		return err
	}
	if err := unix.Lstat(f.Name(), &named); err != nil {
		return &os.PathError{Op: "lstat", Path: f.Name(), Err: err}
	}
	if locked.Dev != named.Dev || locked.Ino != named.Ino {
		return &os.PathError{Op: "open", Path: f.Name(), Err: os.ErrNotExist}
	}
	return f.Chmod(0o700)
}
