package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// buildSuffix ends the names of the folders that images are built in.
const buildSuffix = ".minivmm-build"

// Build is an image in the making: a folder of its own beside the image's place, which Close removes.
type Build struct {
	path  string   // where the image goes
	force bool     // it may replace another
	dir   string   // the folder
	lock  *os.File // of the folder
	old   *os.File // the image to be replaced, locked; nil without
}

// Begin begins an image at path. A file that is there already is fs.ErrExist unless force says to replace it when the
// new one is whole. It is EBUSY when that file is in use, or an image is being built at path.
func Begin(path string, force bool) (*Build, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	b := &Build{path: path, force: force, dir: filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+buildSuffix)}
	if err := b.begin(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Build) begin() error {
	st, err := os.Lstat(b.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return inputErrorf("%s: there is something that is not a disk image: %v", b.path, st.Mode())
	case !b.force:
		return b.exists()
	default:
		if b.old, err = Lock(b.path); err != nil {
			return err
		}
	}
	if err := sweep(filepath.Dir(b.path)); err != nil {
		return err
	}
	for {
		if err := os.Mkdir(b.dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		lock, err := own(b.dir)
		if errors.Is(err, os.ErrNotExist) { // swept by another build before it was locked
			continue
		}
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%s: %w", b.path, err)
		}
		if err != nil {
			return err
		}
		b.lock = lock
		// what a killed build of the same image left
		left, err := os.ReadDir(b.dir)
		for _, e := range left {
			err = errors.Join(err, os.RemoveAll(filepath.Join(b.dir, e.Name())))
		}
		return err
	}
}

func (b *Build) exists() error {
	return fmt.Errorf("%w: remove it first, or use --force", &os.PathError{Op: "create", Path: b.path, Err: os.ErrExist})
}

// TempDir makes a folder that lives as long as the build, in the same file system as the image.
func (b *Build) TempDir(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.Mkdir(dir, 0o700)
}

// image is the path of the image while it is being made.
func (b *Build) image() string { return filepath.Join(b.dir, "image") }

// publish puts the finished image, which is f, to its place.
func (b *Build) publish(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if b.force {
		flags = 0
	}
	err := unix.Renameat2(unix.AT_FDCWD, b.image(), unix.AT_FDCWD, b.path, flags)
	if errors.Is(err, unix.EINVAL) && !b.force { // a file system without RENAME_NOREPLACE
		err = unix.Link(b.image(), b.path)
	}
	if errors.Is(err, unix.EEXIST) {
		return b.exists()
	}
	if err != nil {
		return &os.PathError{Op: "rename", Path: b.path, Err: err}
	}
	dir, err := os.Open(filepath.Dir(b.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// Close ends the build and removes all that was not put to its place.
func (b *Build) Close() error {
	var err error
	if b.lock != nil {
		err = removeOwned(b.dir, b.lock)
	}
	if b.old != nil {
		err = errors.Join(err, b.old.Close())
	}
	return err
}

// sweep removes the folders of killed builds from dir. One that is not ours to remove stays, and so does an empty one: its
// build may be about to lock it.
func sweep(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range names {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), buildSuffix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if left, err := os.ReadDir(path); err != nil || len(left) == 0 {
			continue
		}
		lock, err := own(path)
		if err == nil {
			err = removeOwned(path, lock)
		}
		if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
			return err
		}
	}
	return nil
}

// own locks a folder and makes sure that it still has that name; if not it is fs.ErrNotExist.
func own(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := flock(f, "being built"); err != nil {
		f.Close()
		return nil, err
	}
	locked, err := f.Stat()
	if err == nil {
		var named os.FileInfo
		named, err = os.Lstat(dir)
		if err == nil && !os.SameFile(locked, named) {
			err = &os.PathError{Op: "open", Path: dir, Err: os.ErrNotExist}
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// removeOwned removes a folder whose lock is held, and gives up the lock.
func removeOwned(dir string, lock *os.File) error {
	return errors.Join(os.RemoveAll(dir), lock.Close())
}
