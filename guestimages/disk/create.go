package disk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// Create creates an empty image of opt.SizeBytes at path: all zeros, or an empty ext4. If path
// exists, Create returns fs.ErrExist, or with force, replaces the image.
func Create(ctx context.Context, path string, force bool, opt Options) error {
	if err := opt.Check(); err != nil {
		return err
	}
	switch {
	case opt.SizeBytes == 0:
		return inputErrorf("an empty disk needs a size")
	case opt.FS == Erofs:
		return inputErrorf("cannot create an empty erofs: erofs is read-only, nothing could be added to it")
	case opt.FS == Ext4 && opt.SizeBytes < minExt4:
		return inputErrorf("a disk of %d KiB is too small for ext4: it needs at least 8 MiB (8M)", opt.SizeBytes>>10)
	}
	return build(path, force, func(b *Build) error {
		if opt.FS != Ext4 {
			f, err := os.OpenFile(b.image(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			return errors.Join(f.Close(), b.finish(ctx, opt))
		}
		if opt.UUID == "" {
			opt.UUID = randomUUID()
		}
		e, err := newExt4(ctx, b, opt)
		if err != nil {
			return err
		}
		e.time = time.Now()
		if err := e.format(ctx, ""); err != nil {
			return err
		}
		return b.finish(ctx, opt)
	})
}

// FromImage creates the build's image as a copy of the ext4 image source and moves it to its path.
// source must not be in use. The copy keeps the label and size of source unless opt sets them. It
// always gets a new UUID, because one machine may have both images.
func (b *Build) FromImage(ctx context.Context, source string, opt Options) error {
	opt.FS = Ext4
	if err := opt.Check(); err != nil {
		return err
	}
	tune2fs, err := opt.tool(ctx, "tune2fs")
	if err != nil {
		return err
	}
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := copySparse(ctx, b.image(), from); err != nil {
		return err
	}
	if opt.UUID == "" {
		opt.UUID = randomUUID()
	}
	args := []string{"-U", opt.UUID}
	if opt.Label != "" {
		args = append(args, "-L", opt.Label)
	}
	if _, _, err := newTool(ctx, b.dir, tune2fs, append(args, filepath.Base(b.image()))...).run(); err != nil {
		return err
	}
	if opt.SizeBytes != 0 {
		if err := Resize(ctx, b.image(), opt.SizeBytes, opt.Install); err != nil {
			return err
		}
	}
	return b.finish(ctx, opt)
}
