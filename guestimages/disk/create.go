package disk

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// Create creates an image of opt.SizeBytes in the file named by path. The image is all zeros, or an
// empty ext4 if opt.FS is Ext4. If the file exists, Create returns fs.ErrExist, or replaces the
// file if force is set.
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
		tree, err := b.Tree()
		if err == nil {
			err = tree.Put(filetree.Node{Mode: unix.S_IFDIR | 0o755, ModTime: time.Now()}, nil)
		}
		if err != nil {
			return err
		}
		opt.UUID = cmp.Or(opt.UUID, randomUUID())
		return b.FromTree(ctx, tree, opt)
	})
}

// FromTree creates an image of the tree t in the file named by path. It calls Begin, Build.FromTree
// and Close. FromTree is fastest if the tree's file contents and the image are in the same file
// system.
func FromTree(ctx context.Context, t *filetree.Tree, path string, force bool, opt Options) error {
	return build(path, force, func(b *Build) error { return b.FromTree(ctx, t, opt) })
}

// FromTree creates the build's image from a tree, as ext4 unless opt.FS is Erofs, and moves the
// image to its final path. FromTree returns an *InputError if the tree is too large for
// opt.SizeBytes or contains something that the file system cannot store.
func (b *Build) FromTree(ctx context.Context, t *filetree.Tree, opt Options) error {
	opt.FS = cmp.Or(opt.FS, Ext4)
	if err := opt.Check(); err != nil {
		return err
	}
	if opt.UUID == "" {
		opt.UUID = treeUUID(t, opt)
	}
	write := map[FS]func(context.Context, *filetree.Tree, Options) error{Ext4: b.ext4, Erofs: b.erofs}[opt.FS]
	if err := write(ctx, t, opt); err != nil {
		return err
	}
	return b.finish(ctx, opt)
}

// FromImage copies the ext4 image in the file named by source and moves the copy to its final path.
// The source image must not be in use. The copy keeps the source image's label and size unless opt
// sets them. The copy's UUID is opt.UUID or a random one, not the source image's UUID, because one
// VM may use both images.
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
	args := []string{"-U", cmp.Or(opt.UUID, randomUUID())}
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

// finish sets the image's length, frees unused blocks and publishes the image.
func (b *Build) finish(ctx context.Context, opt Options) error {
	f, err := os.OpenFile(b.image(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	// mke2fs and mkfs.erofs end the file where the content ends.
	if err := errors.Join(f.Truncate(max(opt.SizeBytes, st.Size())), f.Chmod(0o600), f.Sync()); err != nil {
		return err
	}
	if err := punch(f, st.Size()); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return b.publish(f)
}
