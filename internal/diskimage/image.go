package diskimage

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
)

// DefaultBlockSize is what Options.BlockSize 0 means, in bytes.
const DefaultBlockSize = 512

// Options say which disk, and how it is used.
type Options struct {
	Path      string // an existing file or block device
	ReadOnly  bool
	SizeBytes uint64 // 0: all of it; less only of a file
	BlockSize int    // bytes; 0: DefaultBlockSize
	// Kernel says that LIO serves the disk: it opens the file again, always for
	// writing, and claims a block device for itself alone.
	Kernel bool
}

// Image is a disk that is open, checked and locked. File is not with Go's
// poller.
type Image struct {
	File        *os.File
	BlockDevice bool   // not a regular file
	SizeBytes   uint64 // a multiple of BlockSize, not 0
	BlockSize   int    // bytes of a logical block: what Options want, and at least a block device's own
	Physical    int    // bytes that a block device writes at a time without reading; 0 of a file
}

// Error is a disk that has to be another one, or used otherwise, whoever serves it.
type Error struct{ err error }

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

func errorf(format string, args ...any) error { return &Error{fmt.Errorf(format, args...)} }

// Open opens the disk, makes sure that it is one, and locks it against a second
// use, in which two targets would corrupt it: exclusively, or shared if it is
// read-only. The lock holds as long as File is open. A block device must not be
// in use by the host either. A writable one in process is claimed (O_EXCL) as
// long as File is open, so that it cannot be mounted meanwhile; a claim for a
// read-only one would shut out other read-only machines. A disk in use is EBUSY,
// and the error names the process or the mount. What cannot be a disk as it is,
// is an *Error.
func Open(o Options) (Image, error) {
	mode := unix.O_RDWR
	if o.ReadOnly {
		mode = unix.O_RDONLY
	}
	var st unix.Stat_t // zero, and no block device, if there is none
	unix.Stat(o.Path, &st)
	block := st.Mode&unix.S_IFMT == unix.S_IFBLK
	flags := mode
	switch {
	case o.Kernel:
		if err := o.KernelCan(); err != nil {
			return Image{}, fmt.Errorf("%w (backend = \"inprocess\" serves it)", err)
		}
		if block && !o.ReadOnly {
			if fd, err := open(o.Path, mode|unix.O_EXCL); err == nil {
				unix.Close(fd) // it is free, and stays so for LIO
			} else if errors.Is(err, unix.EBUSY) {
				return Image{}, inUse(o.Path, &st)
			}
		}
	case block && !o.ReadOnly:
		flags |= unix.O_EXCL
	case block && hostUse(st.Rdev) != "":
		return Image{}, inUse(o.Path, &st)
	}
	fd, err := open(o.Path, flags)
	if errors.Is(err, unix.EBUSY) {
		return Image{}, inUse(o.Path, &st)
	}
	if err != nil {
		return Image{}, o.openError(err)
	}
	img := Image{File: os.NewFile(uintptr(fd), o.Path)}
	if err = img.check(o); err == nil {
		err = img.lock(o.ReadOnly)
	}
	if err != nil {
		return Image{}, errors.Join(err, img.File.Close())
	}
	return img, nil
}

// KernelCan says why LIO cannot serve a disk that this process can: it opens a file for writing
// and claims a block device for itself alone, also those of read-only disks.
func (o Options) KernelCan() error {
	if !o.ReadOnly {
		return nil
	}
	var st unix.Stat_t
	if unix.Stat(o.Path, &st) != nil {
		return nil // which nobody can serve
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		fd, err := open(o.Path, unix.O_RDONLY|unix.O_EXCL)
		if err == nil {
			unix.Close(fd)
		}
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%w, and vhost-scsi wants a block device for itself alone", inUse(o.Path, &st))
		}
		return nil
	}
	if err := unix.Faccessat(unix.AT_FDCWD, o.Path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return errorf("%s: %w, and vhost-scsi opens a file for writing, also that of a read-only disk", o.Path, err)
	}
	return nil
}

// open is open(2) with a descriptor that Go's poller does not know. O_NONBLOCK is so that a fifo
// does not keep us waiting to be refused.
func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			err = unix.SetNonblock(fd, false) // os.NewFile would hand the descriptor to the poller
			if err == nil {
				return fd, nil
			}
			unix.Close(fd)
		}
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
}

// openError says what helps a user who may not open the disk.
func (o Options) openError(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return errorf("%w (readonly = true, or make the file system writable)", err)
	case !errors.Is(err, unix.EACCES):
		return err
	case o.ReadOnly:
		return fmt.Errorf("%w (give the user read access to it)", err)
	case unix.Faccessat(unix.AT_FDCWD, o.Path, unix.R_OK, unix.AT_EACCESS) == nil:
		return fmt.Errorf("%w (the user may read it but not write: readonly = true, or give write access too)", err)
	}
	return fmt.Errorf("%w (give the user read and write access to it)", err)
}

// check takes the disk's size and makes sure that what is there can be a disk.
func (img *Image) check(o Options) error {
	img.BlockSize = max(o.BlockSize, DefaultBlockSize)
	var err error
	if img.SizeBytes, img.BlockDevice, err = Size(img.File); err != nil {
		return err
	}
	if img.BlockDevice {
		if err := img.limits(o.ReadOnly); err != nil {
			return err
		}
	}
	if err := checkRaw(img.File); err != nil {
		return err
	}
	if o.SizeBytes > img.SizeBytes {
		return errorf("%s: has %d bytes, want %d", o.Path, img.SizeBytes, o.SizeBytes)
	}
	if o.SizeBytes != 0 && img.BlockDevice && o.SizeBytes != img.SizeBytes {
		return errorf("%s: part of a block device cannot be a disk", o.Path)
	}
	if o.SizeBytes != 0 {
		img.SizeBytes = o.SizeBytes
	}
	if img.SizeBytes == 0 {
		return errorf("%s: is empty", o.Path)
	}
	if img.SizeBytes%uint64(img.BlockSize) != 0 {
		return errorf("%s: %d bytes are not a multiple of the block size %d", o.Path, img.SizeBytes, img.BlockSize)
	}
	return nil
}

// lock takes the flock(2) by which two uses of a disk exclude each other.
func (img *Image) lock(shared bool) error {
	try := flock.Try
	if shared {
		try = flock.TryShared
	}
	err := try(img.File)
	if errors.Is(err, unix.EWOULDBLOCK) {
		var st unix.Stat_t
		if err := unix.Fstat(int(img.File.Fd()), &st); err != nil {
			return &os.PathError{Op: "fstat", Path: img.File.Name(), Err: err}
		}
		return inUse(img.File.Name(), &st)
	}
	return err
}

// inUse is the error of a disk that a process or the host has in use.
func inUse(path string, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		if use := hostUse(st.Rdev); use != "" {
			return fmt.Errorf("%s: %w (%s)", path, unix.EBUSY, use)
		}
	}
	who, known := flock.Holder(st)
	if !known {
		who = "another process"
	}
	return fmt.Errorf("%s: %w (in use by %s)", path, unix.EBUSY, who)
}

// Serial makes a serial number of 16 hexadecimal digits that stays the same as
// long as the path does.
func Serial(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	h := fnv.New64a()
	h.Write([]byte(path))
	return fmt.Sprintf("%016x", h.Sum64())
}
