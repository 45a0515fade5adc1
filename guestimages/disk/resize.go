package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// Resize makes the image at path larger or smaller, and an ext2, ext3 or ext4 in it with it. A size that would cut off
// data is an *InputError: of a file system what it needs, of other content what is not zero. An image in use is EBUSY, and it
// is locked while it is resized.
//
// Once the file system is being changed it is not interrupted, whatever ctx says: half of that would be a broken one. A
// growing that was killed all the same is taken up again by the next one.
func Resize(ctx context.Context, path string, sizeBytes int64, install Installer) error {
	if sizeBytes <= 0 || sizeBytes%blockSize != 0 {
		return inputErrorf("a disk of %d bytes cannot be: its size is a multiple of 4K", sizeBytes)
	}
	f, err := Lock(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := inspect(f)
	if err != nil {
		return err
	}
	switch info.FS {
	case "ext2", "ext3", "ext4":
		err = resizeExt(ctx, f, info, sizeBytes, install)
	default:
		err = resizePlain(f, info, sizeBytes)
	}
	return errors.Join(err, f.Sync())
}

// resizePlain changes the length of a file, but cuts off only zeros.
func resizePlain(f *os.File, info Info, sizeBytes int64) error {
	if sizeBytes < info.SizeBytes {
		end, err := dataEnd(f, sizeBytes, info.SizeBytes)
		if err != nil {
			return err
		}
		if end > sizeBytes {
			return inputErrorf("%s: cannot be as small as %dK: it has data up to %dK", info.Path, sizeBytes>>10, (end+blockSize-1)/blockSize*(blockSize>>10))
		}
	}
	return setLength(f, sizeBytes)
}

// dataEnd is the end of what is not zero between two offsets, or the first of them.
func dataEnd(f *os.File, from, to int64) (end int64, err error) {
	end = from
	buf := make([]byte, 1<<20)
	err = segments(f, to, func(off, n int64) error {
		for stop := off + n; off < stop; {
			part := buf[:min(int64(len(buf)), stop-off)]
			if _, err := f.ReadAt(part, off); err != nil {
				return err
			}
			for i := len(part) - 1; i >= 0; i-- {
				if part[i] != 0 {
					end = max(end, off+int64(i)+1)
					break
				}
			}
			off += int64(len(part))
		}
		return nil
	}, nil)
	return end, err
}

// setLength is ftruncate(2); growing is undone by a host that has no more room only when it comes to writing.
func setLength(f *os.File, sizeBytes int64) error {
	if err := unix.Ftruncate(int(f.Fd()), sizeBytes); err != nil {
		return &os.PathError{Op: "ftruncate", Path: f.Name(), Err: err}
	}
	return nil
}

// minimum is what "resize2fs -P" says, in blocks of the file system.
func minimum() *regexp.Regexp { return regexp.MustCompile(`minimum size of the filesystem: (\d+)`) }

func resizeExt(ctx context.Context, f *os.File, info Info, sizeBytes int64, install Installer) error {
	opt := Options{FS: Ext4, Install: install}
	e2fsck, err1 := opt.tool(ctx, "e2fsck")
	resize2fs, err2 := opt.tool(ctx, "resize2fs")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if info.SizeBytes < info.FSBytes {
		return inputErrorf("%s: its file system is of %d bytes, the file of %d: it is truncated", info.Path, info.FSBytes, info.SizeBytes)
	}
	path := "/proc/self/fd/3" // the file that is locked, whatever is at its path by now
	// A mended file system (1) is as good as a clean one.
	if out, errs, err := (tool{path: e2fsck, args: []string{"-f", "-p", path}, file: f}).run(ctx); err != nil && exitStatus(err) != 1 {
		return inputErrorf("%s: its file system has errors that want a decision: run e2fsck on it\n%s%s", info.Path, out, errs)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx = context.WithoutCancel(ctx)
	if sizeBytes < info.FSBytes {
		out, _, err := tool{path: resize2fs, args: []string{"-P", path}, file: f}.run(ctx)
		if err != nil {
			return err
		}
		if m := minimum().FindSubmatch(out); m != nil {
			blocks, _ := strconv.ParseInt(string(m[1]), 10, 64)
			if least := blocks * info.blockBytes; sizeBytes < least {
				return inputErrorf("%s: cannot be as small as %dK: its files need about %dK", info.Path, sizeBytes>>10, least>>10)
			}
		}
	} else if err := setLength(f, sizeBytes); err != nil {
		return err
	}
	if _, _, err := (tool{path: resize2fs, args: []string{path, fmt.Sprintf("%dk", sizeBytes>>10)}, file: f}).run(ctx); err != nil {
		return err
	}
	return setLength(f, sizeBytes)
}
