package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/disk"
)

// maxLabel is the length of s_volume_name in ext4's superblock, fs/ext4/ext4.h.
const maxLabel = 16

// Create makes a disk of an image at path, for its owner to write to: a copy of what Build returns, which is returned too. Of
// opt SizeBytes, Label and Install count. It holds to the rules of package disk: a file that is there is fs.ErrExist unless
// force replaces it, one in use is EBUSY, and what fails or is interrupted leaves nothing.
func Create(ctx context.Context, c *cache.Cache, image, path string, force bool, o Options, opt disk.Options) (_ *Disk, err error) {
	if len(opt.Label) > maxLabel || strings.ContainsFunc(opt.Label, unicode.IsControl) {
		return nil, invalidf("label %q: want at most %d bytes and no control characters", opt.Label, maxLabel)
	}
	b, err := disk.Begin(path, force)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	o.Install = opt.Install
	d, err := Build(ctx, c, image, o)
	if err != nil {
		return nil, err
	}
	return d, d.copyTo(ctx, b, path, force, opt)
}

func (d *Disk) copyTo(ctx context.Context, b *disk.Build, path string, force bool, opt disk.Options) error {
	dir, err := b.TempDir("copy")
	if err != nil {
		return err
	}
	image := filepath.Join(dir, filepath.Base(path))
	if err := copyFile(ctx, image, d.Path); err != nil {
		return err
	}
	if opt.Label != "" {
		if err := label(ctx, image, opt.Label); err != nil {
			return err
		}
	}
	if opt.SizeBytes != 0 {
		if err := disk.Resize(ctx, image, opt.SizeBytes, opt.Install); err != nil {
			return err
		}
	}
	return publish(image, path, force)
}

// label sets the label of an ext4.
func label(ctx context.Context, image, text string) error {
	cmd := exec.CommandContext(ctx, "tune2fs", "-L", text, image)
	for _, dir := range []string{"/usr/sbin", "/sbin"} { // where users without root do not look
		if errors.Is(cmd.Err, exec.ErrNotFound) {
			cmd = exec.CommandContext(ctx, dir+"/tune2fs", "-L", text, image)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("tune2fs (package e2fsprogs): %w\n%s", err, bytes.TrimSpace(out))
	}
	return nil
}

// copyFile makes to a copy of from that shares its blocks where the file system can, and else has holes for its zeros.
func copyFile(ctx context.Context, to, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if unix.IoctlFileClone(int(dst.Fd()), int(src.Fd())) != nil {
		err = copyData(dst, contextReader{ctx, src})
	}
	return errors.Join(err, dst.Truncate(info.Size()), dst.Close())
}

// copyData copies all but whole blocks of zeros.
func copyData(dst io.WriterAt, src io.Reader) error {
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		n, err := io.ReadFull(src, block)
		if n > 0 && !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := dst.WriteAt(block[:n], off); err != nil {
				return err
			}
		}
		off += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// publish gives the finished image its name.
func publish(image, path string, force bool) error {
	f, err := os.Open(image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return err
	}
	if force {
		return os.Rename(image, path)
	}
	// Unlike rename(2), link(2) replaces nothing.
	return os.Link(image, path)
}
