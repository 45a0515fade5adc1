package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"minivmm/internal/workdir"
)

// Build is an image in the making: a folder of its own beside the image's place, which Close removes.
type Build struct {
	path  string       // where the image goes
	force bool         // it may replace another
	dir   string       // the folder
	work  *workdir.Dir // the same, nil until it is there
	old   *os.File     // the image to be replaced, locked; nil without
}

// Begin begins an image at path. A file that is there already is fs.ErrExist unless force says to replace it when the
// new one is whole. It is EBUSY when that file is in use, or an image is being built at path.
func Begin(path string, force bool) (*Build, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	b := &Build{path: path, force: force, dir: filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+workdir.Suffix)}
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
	if err := workdir.Sweep(filepath.Dir(b.path)); err != nil {
		return err
	}
	b.work, err = workdir.Claim(b.dir)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return busy(b.path, "being built", b.dir)
	}
	return err
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
	if b.work != nil {
		err = b.work.Close()
	}
	if b.old != nil {
		err = errors.Join(err, b.old.Close())
	}
	return err
}
