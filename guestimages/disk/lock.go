package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"minivmm/internal/flock"
)

// Lock opens the image at path for reading and writing and takes the same lock as a machine that
// uses it. Closing the file releases the lock. If the image is in use, Lock returns EBUSY and the
// error names the process that uses it.
func Lock(path string) (*os.File, error) {
	// O_NONBLOCK: opening a fifo must fail at once instead of blocking.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = inputErrorf("%s: not a regular file", path)
	}
	if err == nil {
		err = lock(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// lock takes the exclusive lock of an open image.
func lock(f *os.File) error {
	err := flock.Try(f)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return busy(f.Name(), "in use", f.Name())
	}
	return err
}

// busy returns EBUSY for an image. doing states what the holder of the lock is doing; locked is the
// locked file or folder.
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
