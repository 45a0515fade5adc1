package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// FromTree creates an image of a tree at path. It calls Begin, Build.FromTree and Close. It is
// fastest if the tree's contents are in the same file system as path.
func FromTree(ctx context.Context, t *filetree.Tree, path string, force bool, opt Options) error {
	return build(path, force, func(b *Build) error { return b.FromTree(ctx, t, opt) })
}

// FromTree creates the build's image from a tree, as ext4 unless opt.FS is Erofs, and moves it to
// its path. It returns an *InputError if the tree is too large for opt.SizeBytes or contains
// something that the file system cannot store.
func (b *Build) FromTree(ctx context.Context, t *filetree.Tree, opt Options) error {
	if opt.FS == None {
		opt.FS = Ext4
	}
	if err := opt.Check(); err != nil {
		return err
	}
	if opt.UUID == "" {
		opt.UUID = treeUUID(t, opt)
	}
	write := b.ext4
	if opt.FS == Erofs {
		write = b.erofs
	}
	if err := write(ctx, t, opt); err != nil {
		return err
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

func (b *Build) ext4(ctx context.Context, t *filetree.Tree, opt Options) error {
	e, err := newExt4(ctx, b, opt)
	if err != nil {
		return err
	}
	need := measure(t)
	e.time, e.inodes = need.time, need.inodes
	if e.opt.SizeBytes == 0 {
		e.opt.SizeBytes = need.comfortable()
	}
	if e.opt.SizeBytes < need.least() {
		return tooSmall(e.opt.SizeBytes, need)
	}
	staged := filepath.Join(b.dir, "stage")
	if err := stage(ctx, t, staged); err != nil {
		return err
	}
	err = e.fill(ctx, t, staged)
	if err != nil && isFull(err) {
		return fmt.Errorf("%w\n%w", tooSmall(e.opt.SizeBytes, need), err)
	}
	return err
}

// need is the room that a tree requires in ext4.
type need struct {
	inodes int64
	bytes  int64     // of content and folders, in whole blocks
	time   time.Time // the latest time in the tree that is not in the future
}

func measure(t *filetree.Tree) need {
	var n need
	now := time.Now()
	for node := range t.All() {
		if node.Link != "" {
			continue
		}
		n.inodes++
		n.bytes += (node.SizeBytes + blockSize - 1) / blockSize * blockSize
		if node.IsDir() || len(node.Target) > 59 { // EXT2_N_BLOCKS: the inode holds shorter targets
			n.bytes += blockSize
		}
		if len(node.Xattrs) > 0 {
			n.bytes += blockSize
		}
		if node.ModTime.After(n.time) && !node.ModTime.After(now) {
			n.time = node.ModTime
		}
	}
	const spare = 4 // one spare inode for so many used ones
	n.inodes += n.inodes/spare + 256
	return n
}

// least returns a lower bound for the size of an image of the tree, in bytes.
func (n need) least() int64 { return max(minExt4, n.bytes+n.inodes*inodeSize) }

// comfortable returns the default image size in bytes: the lower bound plus a quarter plus
// slackBytes, in whole MiB.
func (n need) comfortable() int64 {
	size := n.least() + n.least()/4 + slackBytes
	return (size + 1<<20 - 1) >> 20 << 20
}

func tooSmall(size int64, n need) error {
	// No simple formula gives the size of the journal and the tables. One tenth and 8 MiB have been
	// enough.
	enough := (n.least() + n.least()/10 + 8<<20 + 1<<20 - 1) >> 20
	return inputErrorf("a disk of %d MiB is too small for this tree: it needs about %d MiB (%dM)", size>>20, enough, enough)
}

// isFull reports whether a program ran out of blocks or inodes in the image, as opposed to space on
// the host.
func isFull(err error) bool {
	if errors.Is(err, unix.ENOSPC) {
		return false
	}
	text := err.Error()
	for _, message := range []string{"could not allocate block", "could not allocate inode"} {
		if strings.Contains(strings.ToLower(text), message) {
			return true
		}
	}
	return false
}
