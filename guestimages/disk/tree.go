package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// FromTree makes an image of a tree at path, and is Begin, Build.FromTree and Close. The tree's contents are best in the
// same file system as path.
func FromTree(ctx context.Context, t *filetree.Tree, path string, force bool, opt Options) (err error) {
	b, err := Begin(path, force)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return b.FromTree(ctx, t, opt)
}

// FromTree makes the build's image of a tree, in ext4 unless opt.FS is Erofs, and puts it to its place. A tree that is too
// large for opt.SizeBytes, or has what the file system cannot hold, is an *InputError.
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
	staged, err := b.TempDir("stage")
	if err != nil {
		return err
	}
	if err := os.Remove(staged); err != nil { // the tree's root is made like any other folder
		return err
	}
	if opt.FS == Erofs {
		err = b.erofs(ctx, t, staged, opt)
	} else {
		err = b.ext4(ctx, t, staged, opt)
	}
	if err != nil {
		return err
	}
	return b.finish(ctx, opt)
}

// finish frees what the image does not need, and publishes it.
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
	// mke2fs and mkfs.erofs end where the content does.
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

func (b *Build) ext4(ctx context.Context, t *filetree.Tree, staged string, opt Options) error {
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
	if err := stage(ctx, t, staged, stageOptions{}); err != nil {
		return err
	}
	err = e.fill(ctx, t, staged)
	if err != nil && isFull(err) {
		return fmt.Errorf("%w\n%w", tooSmall(e.opt.SizeBytes, need), err)
	}
	return err
}

// need is what a tree takes in ext4.
type need struct {
	inodes int64
	bytes  int64     // content and folders, in whole blocks
	time   time.Time // the latest of the tree's, but not in the future
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
		if node.IsDir() || len(node.Target) > 59 { // EXT2_N_BLOCKS: shorter ones are in the inode
			n.bytes += blockSize
		}
		if len(node.Xattrs) > 0 {
			n.bytes += blockSize
		}
		if node.ModTime.After(n.time) && !node.ModTime.After(now) {
			n.time = node.ModTime
		}
	}
	const spare = 4 // one inode of that many is free
	n.inodes += n.inodes/spare + 256
	return n
}

// least is below what any image of the tree can be.
func (n need) least() int64 { return max(minExt4, n.bytes+n.inodes*inodeSize) }

// comfortable is the tree with a quarter more, and slackBytes, in whole MiB.
func (n need) comfortable() int64 {
	size := n.least() + n.least()/4 + slackBytes
	return (size + 1<<20 - 1) >> 20 << 20
}

func tooSmall(size int64, n need) error {
	// The journal and the tables take what no simple sum says: one tenth and 8 MiB have been enough.
	enough := (n.least() + n.least()/10 + 8<<20 + 1<<20 - 1) >> 20
	return inputErrorf("a disk of %d MiB is too small for this tree: it needs about %d MiB (%dM)", size>>20, enough, enough)
}

// isFull says whether a program ran out of blocks or inodes in the image, and not on the host.
func isFull(err error) bool {
	if errors.Is(err, unix.ENOSPC) {
		return false
	}
	text := err.Error()
	for _, said := range []string{"could not allocate block", "could not allocate inode"} {
		if strings.Contains(strings.ToLower(text), said) {
			return true
		}
	}
	return false
}
