package disk

import (
	"context"
	"errors"
	"os"
	"time"
)

// Create creates an empty image of opt.SizeBytes at path: all zeros, or an empty ext4. If path
// exists, Create returns fs.ErrExist, or with force, replaces the image.
func Create(ctx context.Context, path string, force bool, opt Options) (err error) {
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
	b, err := Begin(path, force)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if opt.FS == Ext4 {
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
	} else {
		f, err := os.OpenFile(b.image(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return b.finish(ctx, opt)
}
