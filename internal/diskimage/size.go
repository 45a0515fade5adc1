package diskimage

import (
	"os"

	"golang.org/x/sys/unix"
)

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
