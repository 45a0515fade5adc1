package disk

import (
	"context"
	"os"
	"path/filepath"
)

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
	if _, _, err := (tool{path: tune2fs, args: append(args, filepath.Base(b.image())), dir: b.dir}).run(ctx); err != nil {
		return err
	}
	if opt.SizeBytes != 0 {
		if err := Resize(ctx, b.image(), opt.SizeBytes, opt.Install); err != nil {
			return err
		}
	}
	return b.finish(ctx, opt)
}
