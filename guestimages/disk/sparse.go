package disk

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// segments calls data for each range of f up to size that may contain bytes other than zero, and
// hole for each hole. Both get an offset and a length. Either may be nil.
func segments(f *os.File, size int64, data, hole func(off, n int64) error) error {
	for off := int64(0); off < size; {
		start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // only a hole up to the end
			start, err = size, nil
		}
		if errors.Is(err, unix.EINVAL) { // a file system without holes
			start, err = off, nil
		}
		if err != nil {
			return &os.PathError{Op: "lseek", Path: f.Name(), Err: err}
		}
		start = min(start, size)
		if start > off && hole != nil {
			if err := hole(off, start-off); err != nil {
				return err
			}
		}
		if start == size {
			return nil
		}
		end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			end = size
		}
		if off = min(end, size); data == nil {
			continue
		}
		if err := data(start, off-start); err != nil {
			return err
		}
	}
	return nil
}

// punch frees the blocks that the host's file system has reserved for ranges of f that were never
// written. mke2fs allocates ranges that must be zero, such as inode tables.
func punch(f *os.File, size int64) error {
	err := segments(f, size, nil, func(off, n int64) error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// copySparse copies src to a new file. The files share their blocks where the file system supports
// that; otherwise the copy keeps the holes.
func copySparse(ctx context.Context, to string, src *os.File) error {
	st, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) != nil {
		err = segments(src, st.Size(), func(off, n int64) error { return copyRange(ctx, dst, src, off, n) }, nil)
	}
	return errors.Join(err, dst.Truncate(st.Size()), dst.Close())
}

// copyRange copies n bytes at off with copy_file_range(2), until ctx is canceled.
func copyRange(ctx context.Context, dst, src *os.File, off, n int64) error {
	for n > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, err1 := dst.Seek(off, io.SeekStart)
		_, err2 := src.Seek(off, io.SeekStart)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		part, err := io.CopyN(dst, src, min(n, 64<<20))
		if err != nil {
			return err
		}
		off, n = off+part, n-part
	}
	return nil
}
