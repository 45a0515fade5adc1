package disk

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// segment is a range of n bytes at offset off in a file. The field hole is false if the range may
// contain nonzero bytes.
type segment struct {
	off, n int64
	hole   bool
}

// segments returns an iterator over the ranges of data and the holes in the first size bytes of f.
// The iteration ends after an error.
func segments(f *os.File, size int64) iter.Seq2[segment, error] {
	return func(yield func(segment, error) bool) {
		for off := int64(0); off < size; {
			start, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
			switch {
			case errors.Is(err, unix.ENXIO): // only a hole up to the end
				start = size
			case errors.Is(err, unix.EINVAL): // a file system without holes
				start = off
			case err != nil:
				yield(segment{}, &os.PathError{Op: "lseek", Path: f.Name(), Err: err})
				return
			}
			start = min(start, size)
			if start > off && !yield(segment{off, start - off, true}, nil) || start == size {
				return
			}
			end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
			if err != nil {
				end = size
			}
			off = min(end, size)
			if !yield(segment{start, off - start, false}, nil) {
				return
			}
		}
	}
}

// punch frees the blocks that the host's file system has allocated for ranges of f that were never
// written. mke2fs allocates such blocks for ranges that must be zero, such as inode tables.
func punch(f *os.File, size int64) error {
	for s, err := range segments(f, size) {
		if err == nil && s.hole {
			err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.off, s.n)
		}
		if errors.Is(err, unix.EOPNOTSUPP) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// copySparse copies src into a new file, named by to. The two files share their blocks where the
// file system supports that; otherwise the copy keeps the holes.
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
		for s, failed := range segments(src, st.Size()) {
			if err = failed; err == nil && !s.hole {
				err = copyRange(ctx, dst, src, s.off, s.n)
			}
			if err != nil {
				break
			}
		}
	}
	return errors.Join(err, dst.Truncate(st.Size()), dst.Close())
}

// copyRange copies n bytes at offset off from src to dst, with copy_file_range(2). It stops when
// ctx is canceled.
func copyRange(ctx context.Context, dst, src *os.File, off, n int64) error {
	_, err1 := dst.Seek(off, io.SeekStart)
	_, err2 := src.Seek(off, io.SeekStart)
	err := errors.Join(err1, err2)
	for n > 0 && err == nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var part int64
		part, err = io.CopyN(dst, src, min(n, 64<<20))
		n -= part
	}
	return err
}
