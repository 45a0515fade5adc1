package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// making is the folder of work folders.
const making = "making"

// Work is a folder for something in the making. Whatever is whole is renamed out of Dir, and Close removes the rest.
type Work struct {
	Dir  string // only its owner may enter
	lock *os.File
}

// Work makes a work folder, in the same file system as the entries. It is locked (flock(2)) as long as this process has
// it, so that a later start can tell the folders of the dead from those of the living; the former it removes first.
func (c *Cache) Work() (*Work, error) {
	dir := c.Path(making)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	if err := sweep(dir); err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	for {
		work, err := os.MkdirTemp(dir, "")
		if err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
		lock, err := own(work)
		if err == nil {
			return &Work{Dir: work, lock: lock}, nil
		}
		// Another process swept it before it was locked.
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("cache: %w", errors.Join(err, os.Remove(work)))
		}
	}
}

// Close removes the folder and what is left in it.
func (w *Work) Close() error {
	return errors.Join(os.RemoveAll(w.Dir), w.lock.Close())
}

// own locks a folder and makes sure that it is still the one of that name.
func own(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	locked, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	named, err := os.Stat(dir)
	if err == nil && !os.SameFile(locked, named) {
		err = &os.PathError{Op: "flock", Path: dir, Err: os.ErrNotExist}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweep removes the work folders that nobody has locked.
func sweep(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		lock, err := own(path)
		if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = os.RemoveAll(path)
		if err := errors.Join(err, lock.Close()); err != nil {
			return err
		}
	}
	return nil
}
