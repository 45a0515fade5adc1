package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"

	"minivmm/internal/diskimage"
)

// Resize grows or shrinks the image at path, together with an ext2, ext3 or ext4 file system in it.
// It returns an *InputError if the new size would cut off data: used space of such a file system,
// or nonzero bytes of any other image. The image is locked during the resize. If the image is in
// use, Resize returns EBUSY. Growing reserves no space on the host.
//
// ctx does not interrupt the change of a file system: stopping halfway would damage it. If the
// process is killed while it grows an image, the next Resize finishes the work.
func Resize(ctx context.Context, path string, sizeBytes int64, install Installer) error {
	if sizeBytes <= 0 || sizeBytes%blockSize != 0 {
		return inputErrorf("invalid disk size of %d bytes: it must be a positive multiple of 4096 (4K)", sizeBytes)
	}
	f, err := Lock(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := diskimage.CheckRaw(path); err != nil {
		return inputErrorf("%v", err)
	}
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

// resizePlain changes the length of a file. It cuts off only zeros.
func resizePlain(f *os.File, info Info, sizeBytes int64) error {
	end, err := dataEnd(f, sizeBytes, info.SizeBytes)
	if err != nil {
		return err
	}
	if end > sizeBytes {
		return inputErrorf("%s: cannot shrink to %dK: it contains data up to %dK", info.Path, sizeBytes>>10, (end+blockSize-1)/blockSize*(blockSize>>10))
	}
	return f.Truncate(sizeBytes)
}

// dataEnd returns the offset just after the last nonzero byte in the range that begins at from and
// ends before to. If all bytes in the range are zero, it returns from.
func dataEnd(f *os.File, from, to int64) (end int64, err error) {
	end = from
	buf := make([]byte, 1<<20)
	for s, err := range segments(f, to) {
		if err != nil {
			return 0, err
		}
		for off := max(s.off, from); !s.hole && off < s.off+s.n; off += int64(len(buf)) {
			part := buf[:min(int64(len(buf)), s.off+s.n-off)]
			if _, err := f.ReadAt(part, off); err != nil {
				return 0, err
			}
			if data := bytes.TrimRight(part, "\x00"); len(data) > 0 {
				end = max(end, off+int64(len(data)))
			}
		}
	}
	return end, nil
}

func resizeExt(ctx context.Context, f *os.File, info Info, sizeBytes int64, install Installer) error {
	opt := Options{FS: Ext4, Install: install}
	e2fsck, err1 := opt.tool(ctx, "e2fsck")
	resize2fs, err2 := opt.tool(ctx, "resize2fs")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if info.SizeBytes < info.FSBytes {
		return inputErrorf("%s: image is truncated: the file system has %d bytes, the file only %d", info.Path, info.FSBytes, info.SizeBytes)
	}
	const file = "/proc/self/fd/3" // the locked file, even if another file has taken its path
	run := func(program string, args ...string) ([]byte, error) {
		t := newTool(ctx, "", program, args...)
		t.ExtraFiles = []*os.File{f}
		out, errs, err := t.run()
		return append(out, errs...), err
	}
	out, err := run(e2fsck, "-f", "-p", file)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// Exit status 1 means that e2fsck repaired all errors: the file system is clean now.
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return inputErrorf("%s: its file system has errors that cannot be repaired automatically: run e2fsck -f %[1]s\n%s", info.Path, out)
	}
	ctx = context.WithoutCancel(ctx)
	if sizeBytes < info.FSBytes {
		out, err := run(resize2fs, "-P", file)
		if err != nil {
			return err
		}
		if m := regexp.MustCompile(`minimum size of the filesystem: (\d+)`).FindSubmatch(out); m != nil {
			blocks, _ := strconv.ParseInt(string(m[1]), 10, 64)
			if least := blocks * info.blockBytes; sizeBytes < least {
				return inputErrorf("%s: cannot shrink to %dK: its files need about %dK", info.Path, sizeBytes>>10, least>>10)
			}
		}
	} else if err := f.Truncate(sizeBytes); err != nil {
		return err
	}
	if _, err := run(resize2fs, file, fmt.Sprintf("%dk", sizeBytes>>10)); err != nil {
		return err
	}
	return f.Truncate(sizeBytes)
}
