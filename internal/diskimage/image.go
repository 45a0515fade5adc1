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
}

// Image is a disk that is open, checked and locked. File is not with Go's
// poller.
type Image struct {
	File        *os.File
	BlockDevice bool   // not a regular file
	SizeBytes   uint64 // a multiple of the block size, not 0
	// LogicalBytes is a block device's own block size, PhysicalBytes what it
	// writes at a time without reading; 0 of a file.
	LogicalBytes, PhysicalBytes int
}

// Open opens the disk, makes sure that it is one, and locks it against a second
// use, in which two targets would corrupt it: exclusively, or shared if it is
// read-only. The lock holds as long as File is open. A disk in use is EBUSY,
// and the error names the process.
func Open(o Options) (Image, error) {
	mode := unix.O_RDWR
	if o.ReadOnly {
		mode = unix.O_RDONLY
	}
	// O_NONBLOCK so that a fifo does not keep us waiting to be told no
	fd, err := unix.Open(o.Path, mode|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return Image{}, o.openError(&os.PathError{Op: "open", Path: o.Path, Err: err})
	}
	// unix.SetNonblock first: os.NewFile would hand the descriptor to Go's poller
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return Image{}, &os.PathError{Op: "fcntl", Path: o.Path, Err: err}
	}
	img := Image{File: os.NewFile(uintptr(fd), o.Path)}
	if err := img.check(o); err != nil {
		img.File.Close()
		return Image{}, err
	}
	return img, nil
}

// openError says what helps a user who may not open the disk.
func (o Options) openError(err error) error {
	switch {
	case !errors.Is(err, unix.EACCES):
		return err
	case o.ReadOnly:
		return fmt.Errorf("%w (give the user read access to it)", err)
	case unix.Faccessat(unix.AT_FDCWD, o.Path, unix.R_OK, unix.AT_EACCESS) == nil:
		return fmt.Errorf("%w (the user may read it but not write: readonly = true, or give write access too)", err)
	}
	return fmt.Errorf("%w (give the user read and write access to it)", err)
}

func (img *Image) check(o Options) error {
	fd := int(img.File.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "fstat", Path: o.Path, Err: err}
	}
	var err error
	if img.SizeBytes, img.BlockDevice, err = Size(img.File); err != nil {
		return err
	}
	if img.BlockDevice {
		if err := img.limits(); err != nil {
			return err
		}
	}
	if o.SizeBytes > img.SizeBytes {
		return fmt.Errorf("%s: has %d bytes, want %d", o.Path, img.SizeBytes, o.SizeBytes)
	}
	if o.SizeBytes != 0 && img.BlockDevice && o.SizeBytes != img.SizeBytes {
		return fmt.Errorf("%s: part of a block device cannot be a disk", o.Path)
	}
	if o.SizeBytes != 0 {
		img.SizeBytes = o.SizeBytes
	}
	block := uint64(max(o.BlockSize, DefaultBlockSize))
	if img.SizeBytes == 0 || img.SizeBytes%block != 0 {
		return fmt.Errorf("%s: %d bytes are not a multiple of the block size %d", o.Path, img.SizeBytes, block)
	}
	how := unix.LOCK_EX
	if o.ReadOnly {
		how = unix.LOCK_SH
	}
	if err := unix.Flock(fd, how|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			who, known := flock.Holder(&st)
			if !known {
				who = "another process"
			}
			return fmt.Errorf("%s: %w (in use by %s)", o.Path, unix.EBUSY, who)
		}
		return &os.PathError{Op: "flock", Path: o.Path, Err: err}
	}
	return nil
}

// PunchesHoles says whether the file system of a writable file gives room back (fallocate(2), FALLOC_FL_PUNCH_HOLE). It frees a
// byte behind the end, where there is nothing to lose.
func (img Image) PunchesHoles() bool {
	var st unix.Stat_t
	fd := int(img.File.Fd())
	for {
		err := unix.Fstat(fd, &st)
		if err == nil {
			err = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, st.Size, 1)
		}
		if err != unix.EINTR {
			return err == nil
		}
	}
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
