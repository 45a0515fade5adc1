package lio

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"minivmm/devices/filelock"
)

// Names of LIO's backstore plugins.
const (
	pluginFile  = "fileio"
	pluginBlock = "iblock"
)

// image is a disk image that is open, checked and locked.
type image struct {
	f         *os.File
	plugin    string
	sizeBytes uint64
	serial    string
}

// openImage opens the image of l, makes sure that it is one, and locks it
// against a second use, in which two backstores would corrupt it: exclusively,
// or shared if it is read-only. The lock holds as long as f is open.
func openImage(l LUN) (image, error) {
	mode := unix.O_RDWR
	if l.ReadOnly {
		mode = unix.O_RDONLY
	}
	// O_NONBLOCK so that a fifo does not keep us waiting to be told no
	fd, err := unix.Open(l.Path, mode|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return image{}, &os.PathError{Op: "open", Path: l.Path, Err: err}
	}
	// unix.SetNonblock first: os.NewFile would hand the descriptor to Go's poller
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return image{}, &os.PathError{Op: "fcntl", Path: l.Path, Err: err}
	}
	img := image{f: os.NewFile(uintptr(fd), l.Path)}
	if err := img.check(l); err != nil {
		img.f.Close()
		return image{}, err
	}
	return img, nil
}

func (img *image) check(l LUN) error {
	fd := int(img.f.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "fstat", Path: l.Path, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		img.plugin, img.sizeBytes = pluginFile, uint64(st.Size)
	case unix.S_IFBLK:
		end, err := img.f.Seek(0, 2)
		if err != nil {
			return err
		}
		img.plugin, img.sizeBytes = pluginBlock, uint64(end)
	default:
		return fmt.Errorf("%s: neither a regular file nor a block device", l.Path)
	}
	if l.SizeBytes > img.sizeBytes {
		return fmt.Errorf("%s: has %d bytes, want %d", l.Path, img.sizeBytes, l.SizeBytes)
	}
	if l.SizeBytes != 0 && img.plugin == pluginBlock && l.SizeBytes != img.sizeBytes {
		return fmt.Errorf("%s: part of a block device cannot be a disk", l.Path)
	}
	if l.SizeBytes != 0 {
		img.sizeBytes = l.SizeBytes
	}
	block := uint64(max(l.BlockSize, defaultBlockSize))
	if img.sizeBytes == 0 || img.sizeBytes%block != 0 {
		return fmt.Errorf("%s: %d bytes are not a multiple of the block size %d", l.Path, img.sizeBytes, block)
	}
	if img.serial = l.Serial; img.serial == "" {
		img.serial = pathSerial(l.Path)
	}
	how := unix.LOCK_EX
	if l.ReadOnly {
		how = unix.LOCK_SH
	}
	if err := unix.Flock(fd, how|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			who, known := filelock.Holder(&st)
			if !known {
				who = "another process"
			}
			return fmt.Errorf("%s: %w (in use by %s)", l.Path, unix.EBUSY, who)
		}
		return &os.PathError{Op: "flock", Path: l.Path, Err: err}
	}
	return nil
}

// kernelPath is the name under which the kernel, in a system call of this
// process, finds the open image.
func (img image) kernelPath() string {
	return fmt.Sprintf("/proc/self/fd/%d", img.f.Fd())
}

// pathSerial makes a serial number of 16 hexadecimal digits that stays the same
// as long as the path does.
func pathSerial(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	h := fnv.New64a()
	h.Write([]byte(path))
	return fmt.Sprintf("%016x", h.Sum64())
}
