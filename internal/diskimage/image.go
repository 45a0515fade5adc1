// Package diskimage opens, checks and locks the files and block devices used as disks. The lock
// prevents a second use, whether the kernel's target or the in-process target serves the disk. The
// error for a disk in use is the same for both targets.
//
// An [Image] holds one descriptor, which owns the lock; the caller of Open must close it.
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

// DefaultBlockSize is the block size in bytes that applies if Options.BlockSize is 0.
const DefaultBlockSize = 512

// Options select a disk and how it is used.
type Options struct {
	Path      string // an existing file or block device
	ReadOnly  bool
	BlockSize int // bytes; 0: DefaultBlockSize
	// Kernel is set if LIO serves the disk. LIO opens the file again, always for writing, and
	// claims a block device exclusively.
	Kernel bool
}

// Image is an open, checked and locked disk. File is not in Go's poller.
type Image struct {
	File        *os.File
	BlockDevice bool   // not a regular file
	SizeBytes   uint64 // a multiple of BlockSize, not 0
	BlockSize   int    // size of a logical block in bytes: Options.BlockSize, or the block device's own size if that is larger
	Physical    int    // physical block size of a block device: bytes it can write without a read-modify-write; 0 for a file
}

// Error means that no target can serve the disk with these Options. The user must choose another
// disk or other Options.
type Error struct{ err error }

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

func errorf(format string, args ...any) error { return &Error{fmt.Errorf(format, args...)} }

// Open opens the disk, checks it, and locks it, because two targets would corrupt it. The lock is
// exclusive, or shared if the disk is read-only, and is held as long as File is open. A block
// device must not be in use by the host either. A writable block device served in process is also
// claimed (O_EXCL) as long as File is open, so that the host cannot mount it. A read-only block
// device is not claimed, because a claim would exclude other VMs that read it. For a disk in use,
// the error is EBUSY and names the process that uses the disk, or the host's use, such as a mount.
// For a disk that cannot be used as it is, the error is an *Error. The caller must close File.
func Open(o Options) (Image, error) {
	mode := unix.O_RDWR
	if o.ReadOnly {
		mode = unix.O_RDONLY
	}
	var st unix.Stat_t // zero if the file does not exist
	unix.Stat(o.Path, &st)
	block := st.Mode&unix.S_IFMT == unix.S_IFBLK
	flags := mode
	switch {
	case o.Kernel:
		if err := o.KernelCan(); err != nil {
			return Image{}, fmt.Errorf("%w (use backend = \"inprocess\")", err)
		}
		if block && !o.ReadOnly {
			if fd, err := open(o.Path, mode|unix.O_EXCL); err == nil {
				unix.Close(fd) // the device is free; release it for LIO
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

// KernelCan returns an error if LIO cannot serve a disk that this process can serve: even for a
// read-only disk, LIO opens a file for writing and claims a block device exclusively.
func (o Options) KernelCan() error {
	if !o.ReadOnly {
		return nil
	}
	var st unix.Stat_t
	if unix.Stat(o.Path, &st) != nil {
		return nil // no target can serve it
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		fd, err := open(o.Path, unix.O_RDONLY|unix.O_EXCL)
		if err == nil {
			unix.Close(fd)
		}
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%w, and vhost-scsi requires exclusive use of a block device", inUse(o.Path, &st))
		}
		return nil
	}
	if err := unix.Faccessat(unix.AT_FDCWD, o.Path, unix.W_OK, unix.AT_EACCESS); err != nil {
		return errorf("%s: %w, and vhost-scsi opens a file for writing even for a read-only disk", o.Path, err)
	}
	return nil
}

// open is like open(2). The descriptor is not in Go's poller. O_NONBLOCK prevents open from blocking
// on a FIFO, which is rejected later.
func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err == unix.EINTR {
			continue
		}
		if err == nil {
			err = unix.SetNonblock(fd, false) // else os.NewFile would add the descriptor to the poller
			if err == nil {
				return fd, nil
			}
			unix.Close(fd)
		}
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
}

// openError adds a hint to err if the user may not open the disk or the file system does not allow
// it.
func (o Options) openError(err error) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return errorf("%w (set readonly = true, or make the file system writable)", err)
	case !errors.Is(err, unix.EACCES):
		return err
	case o.ReadOnly:
		return fmt.Errorf("%w (grant the user read access)", err)
	case unix.Faccessat(unix.AT_FDCWD, o.Path, unix.R_OK, unix.AT_EACCESS) == nil:
		return fmt.Errorf("%w (the user has read access only: set readonly = true, or grant write access)", err)
	}
	return fmt.Errorf("%w (grant the user read and write access)", err)
}

// check reads the disk's size and checks that it can be used as a disk.
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
	if img.SizeBytes == 0 {
		return errorf("%s: is empty", o.Path)
	}
	if img.SizeBytes%uint64(img.BlockSize) != 0 {
		return errorf("%s: %d bytes are not a multiple of the block size %d", o.Path, img.SizeBytes, img.BlockSize)
	}
	return nil
}

// lock locks the disk with flock(2), which prevents a second use.
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

// inUse returns the error for a disk that a process or the host uses.
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

// Size returns the current size of an open disk in bytes, and whether it is a block device.
func Size(f *os.File) (sizeBytes uint64, blockDevice bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, false, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return uint64(st.Size), false, nil
	case unix.S_IFBLK:
		// All reads and writes pass an offset, so the file offset is unused.
		end, err := f.Seek(0, 2)
		return uint64(end), true, err
	}
	return 0, false, errorf("%s: neither a regular file nor a block device", f.Name())
}

// Serial derives a serial number of 16 hexadecimal digits from the path.
func Serial(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	h := fnv.New64a()
	h.Write([]byte(path))
	return fmt.Sprintf("%016x", h.Sum64())
}
