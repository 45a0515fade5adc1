package disk

import (
	"context"
	"errors"
	"os"
	"time"
)

// Create makes an empty image of opt.SizeBytes at path: all zeros, or an empty ext4. A file that is there is fs.ErrExist
// unless force says to replace it.
func Create(ctx context.Context, path string, force bool, opt Options) (err error) {
	if err := opt.Check(); err != nil {
		return err
	}
	switch {
	case opt.SizeBytes == 0:
		return inputErrorf("a disk needs a size")
	case opt.FS == Erofs:
		return inputErrorf("an empty erofs is of no use: it cannot be written to")
	case opt.FS == Ext4 && opt.SizeBytes < minExt4:
		return inputErrorf("a disk of %d KiB is too small for ext4: it needs 8M", opt.SizeBytes>>10)
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
