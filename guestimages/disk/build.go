package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
	"minivmm/internal/flock"
	"minivmm/internal/workdir"
)

// Build builds one image in a work folder beside the image's path. Close removes the folder. A
// Build is not safe for concurrent use.
type Build struct {
	path  string       // of the finished image
	force bool         // the image may replace an existing one
	dir   string       // path of the work folder
	work  *workdir.Dir // the work folder, nil until it exists
	old   *os.File     // the image to replace, locked; nil if there is none
}

// Begin starts building an image at path. If path exists, Begin returns fs.ErrExist, unless force
// is set: then the new image, once it is complete, replaces the old one. Begin returns EBUSY if the
// old image is in use or another build for path is in progress. The caller must call Close.
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

// build calls do with a new Build and closes it.
func build(path string, force bool, do func(*Build) error) (err error) {
	b, err := Begin(path, force)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return do(b)
}

func (b *Build) begin() error {
	st, err := os.Lstat(b.path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return inputErrorf("%s: not a disk image, will not replace it: %v", b.path, st.Mode())
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

// Tree returns a new tree that stores file contents in the build's work folder, and so on the same
// file system as the image. Close removes the contents. Tree may be called once.
func (b *Build) Tree() (*filetree.Tree, error) {
	dir := filepath.Join(b.dir, "tree")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return filetree.New(dir, filetree.Limits{})
}

// image returns the path of the image during the build.
func (b *Build) image() string { return filepath.Join(b.dir, "image") }

// publish moves the finished image to its final path. The image is open as f.
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

// Close ends the build and removes the work folder, including an unfinished image. It also unlocks
// the image that was to be replaced.
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

// Lock opens the image at path for reading and writing, and takes the lock that a VM holds while it
// uses the image. Closing the file releases the lock. If the image is in use, Lock returns EBUSY
// and the error names the process that uses it.
func Lock(path string) (*os.File, error) {
	// O_NONBLOCK: opening a device, such as a serial port, must not block.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = inputErrorf("%s: not a regular file", path)
	}
	if err == nil {
		err = flock.Try(f)
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = busy(path, "in use", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// busy returns EBUSY for an image. The error names the process that holds the lock on the file
// whose path is in locked. The text in doing says what happens to the image, such as "in use".
func busy(image, doing, locked string) error {
	who := "another process"
	var st unix.Stat_t
	if unix.Stat(locked, &st) == nil {
		if name, known := flock.Holder(&st); known {
			who = name
		}
	}
	return fmt.Errorf("%s: %w (%s by %s)", image, unix.EBUSY, doing, who)
}
