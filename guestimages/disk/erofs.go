package disk

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// erofs creates an erofs of the tree: mkfs.erofs packs the staging folder, then every inode in the image gets its owner, mode,
// time and device number from the tree. These are set in the image because a staging folder can contain only this user's files
// and no devices, and mkfs.erofs can set only one owner for all files. (Version 1.7 and later can read a tar instead.)
func (b *Build) erofs(ctx context.Context, t *filetree.Tree, staged string, opt Options) error {
	mkfs, err := opt.tool(ctx, "mkfs.erofs")
	if err != nil {
		return err
	}
	xattrs := false
	for n := range t.All() {
		xattrs = xattrs || len(n.Xattrs) > 0
	}
	if err := stage(ctx, t, staged, stageOptions{devices: true, copy: xattrs}); err != nil {
		return err
	}
	tolerance := "-x-1" // store no attributes: those of the staging folder's file system are not the tree's
	if xattrs {
		tolerance = "-x1000000" // an attribute is shared only by more inodes than this: a shared one could not be fixed per inode
		if err := stageXattrs(t, staged); err != nil {
			return err
		}
	}
	made := measure(t).time
	args := []string{"--quiet", "-Eforce-inode-extended", tolerance, "-U" + opt.UUID, "-T" + strconv.FormatInt(max(1, made.Unix()), 10), b.image(), staged}
	if _, _, err := (tool{path: mkfs, args: args}).run(ctx); err != nil {
		return explainErofs(t, err)
	}
	f, err := os.OpenFile(b.image(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	e := &erofs{f: f, tree: t, made: made, seen: map[string]bool{}, done: map[uint64]bool{}}
	if err := e.finish(opt.Label); err != nil {
		return fmt.Errorf("disk: erofs: %w", err)
	}
	if st, err := f.Stat(); err != nil {
		return err
	} else if opt.SizeBytes != 0 && st.Size() > opt.SizeBytes {
		return inputErrorf("a disk of %d KiB is too small for this tree: as erofs it needs %d KiB (%dK)", opt.SizeBytes>>10, st.Size()>>10, st.Size()>>10)
	}
	return nil
}

// explainErofs adds to err a file name that mkfs.erofs 1.5 cannot store. mkfs.erofs itself reports only "no such file".
func explainErofs(t *filetree.Tree, err error) error {
	for n := range t.All() {
		if name := path.Base(n.Path); len(name) == 255 {
			return fmt.Errorf("%w\nsome versions of mkfs.erofs cannot store names of 255 bytes, like %q", err, n.Path)
		}
	}
	return err
}

// aclPrefix is the prefix of the only attributes besides "user." that a user may set on their own files.
const aclPrefix = "system.posix_acl_"

// erofsPrefixes maps the attribute name spaces that only root can set to their e_name_index. Their attributes are staged as
// "user.", which has index 1.
var erofsPrefixes = map[string]byte{"trusted.": 4, "security.": 6}

// stageXattrs sets the extended attributes in the staging folder. It must run after stage: files created later would inherit
// default ACLs.
func stageXattrs(t *filetree.Tree, dir string) error {
	for n := range t.All() {
		if len(n.Xattrs) == 0 || n.Link != "" {
			continue
		}
		switch n.Mode & unix.S_IFMT {
		case unix.S_IFLNK, unix.S_IFIFO, unix.S_IFSOCK:
			return inputErrorf("%q: erofs: setting extended attributes of symbolic links, fifos and sockets is not supported: use ext4", n.Path)
		}
		staged := map[string]bool{}
		for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
			as := name
			for prefix := range erofsPrefixes {
				if rest, ok := strings.CutPrefix(name, prefix); ok {
					as = "user." + rest
				}
			}
			if staged[as] || !strings.HasPrefix(as, "user.") && !strings.HasPrefix(as, aclPrefix) {
				return inputErrorf("%q: erofs: setting the extended attribute %q is not supported: use ext4", n.Path, name)
			}
			staged[as] = true
			if err := unix.Setxattr(filepath.Join(dir, n.Path), as, n.Xattrs[name], 0); err != nil {
				return &os.PathError{Op: "setxattr " + as, Path: n.Path, Err: err}
			}
		}
	}
	return nil
}

// erofs edits an image with extended inodes (fs/erofs/erofs_fs.h) to match the tree.
type erofs struct {
	f    *os.File
	tree *filetree.Tree
	made time.Time // for nodes without a time

	metaOff int64           // of the inode area in the image
	seen    map[string]bool // paths found in the image
	done    map[uint64]bool // inodes already set, by nid: an inode with hard links is visited more than once
}

// Superblock and inode: offsets in struct erofs_super_block and struct erofs_inode_extended.
const (
	superOff      = 1024 // EROFS_SUPER_OFFSET
	superMagic    = 0xe0f5e1e2
	superChecksum = 4
	superCompat   = 8
	superBlkBits  = 12
	superRootNID  = 14
	superBlocks   = 36
	superMetaBlk  = 40
	superUUID     = 48
	superName     = 64 // volume_name, 16 bytes
	compatSum     = 1  // EROFS_FEATURE_COMPAT_SB_CHKSUM

	inodeBytes   = 64
	inodeXattrs  = 2 // i_xattr_icount
	inodeMode    = 4
	inodeBytes64 = 8  // i_size
	inodeData    = 16 // i_u: block address, or device number
	inodeUID     = 24
	inodeGID     = 28
	inodeTime    = 32
	inodeNsec    = 40

	nidUnit      = 32 // EROFS_ISLOTBITS
	layoutPlain  = 0  // EROFS_INODE_FLAT_PLAIN
	layoutInline = 2  // EROFS_INODE_FLAT_INLINE

	direntBytes = 12
	direntName  = 8  // nameoff
	direntType  = 10 // file_type
)

var le = binary.LittleEndian

// lostFound is a folder of other file systems. mkfs.erofs skips it.
const lostFound = "lost+found"

// errImage reports an image layout that this package does not know.
var errImage = errors.New("mkfs.erofs created an image with an unknown layout")

func (e *erofs) finish(label string) error {
	super := make([]byte, blockSize-superOff)
	if _, err := e.f.ReadAt(super, superOff); err != nil {
		return err
	}
	if le.Uint32(super) != superMagic || super[superBlkBits] != 12 {
		return errImage
	}
	e.metaOff = int64(le.Uint32(super[superMetaBlk:])) * blockSize
	if err := e.folder("", uint64(le.Uint16(super[superRootNID:]))); err != nil {
		return err
	}
	for n := range e.tree.All() {
		if !e.seen[n.Path] && n.Path != lostFound {
			return fmt.Errorf("mkfs.erofs did not store %q", n.Path)
		}
	}
	// The checksum covers the whole block of the superblock, which may also contain inodes: read it again.
	if _, err := e.f.ReadAt(super, superOff); err != nil {
		return err
	}
	copy(super[superName:superName+16], make([]byte, 16))
	copy(super[superName:], label)
	if le.Uint32(super[superCompat:])&compatSum != 0 {
		le.PutUint32(super[superChecksum:], 0)
		// the kernel's crc32c() does not invert its result
		le.PutUint32(super[superChecksum:], ^crc32.Checksum(super, crc32.MakeTable(crc32.Castagnoli)))
	}
	_, err := e.f.WriteAt(super, superOff)
	return err
}

// inode writes the tree's metadata to one inode. It returns the inode's old bytes and its offset.
func (e *erofs) inode(path string, nid uint64) (old []byte, off int64, err error) {
	off = e.metaOff + int64(nid)*nidUnit
	old = make([]byte, inodeBytes)
	if _, err := e.f.ReadAt(old, off); err != nil {
		return nil, 0, err
	}
	if old[0]&1 == 0 { // a compact inode
		return nil, 0, errImage
	}
	n, ok := e.tree.Get(path)
	if !ok {
		return nil, 0, fmt.Errorf("%q is in the image but not in the tree", path)
	}
	e.seen[path] = true
	if e.done[nid] {
		return old, off, nil
	}
	e.done[nid] = true
	is := slices.Clone(old)
	le.PutUint16(is[inodeMode:], uint16(n.Mode))
	le.PutUint32(is[inodeUID:], n.UID)
	le.PutUint32(is[inodeGID:], n.GID)
	mtime := n.ModTime
	if mtime.IsZero() {
		mtime = e.made
	}
	le.PutUint64(is[inodeTime:], uint64(mtime.Unix()))
	le.PutUint32(is[inodeNsec:], uint32(mtime.Nanosecond()))
	if isDevice(n) {
		le.PutUint32(is[inodeData:], encodeDevice(n))
	}
	if _, err := e.f.WriteAt(is, off); err != nil {
		return nil, 0, err
	}
	return old, off, e.xattrs(n, off, xattrBytes(old))
}

func isDevice(n *filetree.Node) bool {
	kind := n.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK
}

// xattrBytes returns the length of an inode's extended attributes, which follow it: struct erofs_xattr_ibody_header and the
// entries.
func xattrBytes(inode []byte) int64 {
	count := int64(le.Uint16(inode[inodeXattrs:]))
	if count == 0 {
		return 0
	}
	return 12 + 4*(count-1)
}

// xattrs restores the name space of attributes that were staged as "user.".
func (e *erofs) xattrs(n *filetree.Node, inodeOff, size int64) error {
	if size == 0 {
		return nil
	}
	body := make([]byte, size)
	if _, err := e.f.ReadAt(body, inodeOff+inodeBytes); err != nil {
		return err
	}
	if body[4] != 0 { // h_shared_count
		return errImage
	}
	for at := 12; at+4 <= len(body); { // struct erofs_xattr_entry
		nameLen, valueLen := int(body[at]), int(le.Uint16(body[at+2:]))
		end := at + 4 + nameLen + valueLen
		if end > len(body) {
			return errImage
		}
		name := string(body[at+4 : at+4+nameLen])
		for prefix, index := range erofsPrefixes {
			if _, ok := n.Xattrs[prefix+name]; ok && body[at+1] == 1 {
				body[at+1] = index
			}
		}
		at = (end + 3) &^ 3
	}
	_, err := e.f.WriteAt(body, inodeOff+inodeBytes)
	return err
}

// folder sets the inode of the folder at a path, and everything below it.
func (e *erofs) folder(at string, nid uint64) error {
	inode, off, err := e.inode(at, nid)
	if err != nil {
		return err
	}
	size := int64(le.Uint64(inode[inodeBytes64:]))
	data := int64(le.Uint32(inode[inodeData:])) * blockSize
	layout := inode[0] >> 1 & 7
	if layout != layoutPlain && layout != layoutInline {
		return errImage
	}
	for start := int64(0); start < size; start += blockSize {
		block := make([]byte, min(blockSize, size-start))
		from := data + start
		if layout == layoutInline && len(block) < blockSize { // the tail follows the inode and its attributes
			from = off + inodeBytes + xattrBytes(inode)
		}
		if _, err := e.f.ReadAt(block, from); err != nil {
			return err
		}
		if err := e.names(at, block); err != nil {
			return err
		}
		if _, err := e.f.WriteAt(block, from); err != nil {
			return err
		}
	}
	return nil
}

// names sets the inodes and file types of the entries in one block of a folder.
func (e *erofs) names(dir string, block []byte) error {
	if len(block) < direntBytes {
		return errImage
	}
	count := int(le.Uint16(block[direntName:])) / direntBytes // the first name follows the last entry
	for i := range count {
		entry := block[i*direntBytes:]
		start, end := int(le.Uint16(entry[direntName:])), len(block)
		if i+1 < count {
			end = int(le.Uint16(entry[direntBytes+direntName:]))
		}
		if start > end || end > len(block) {
			return errImage
		}
		name, _, _ := strings.Cut(string(block[start:end]), "\x00")
		if name == "." || name == ".." {
			continue
		}
		at, nid := path.Join(dir, name), le.Uint64(entry)
		n, ok := e.tree.Get(at)
		if !ok {
			return fmt.Errorf("%q is in the image but not in the tree", at)
		}
		switch n.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			if err := e.folder(at, nid); err != nil {
				return err
			}
			continue
		case unix.S_IFCHR:
			entry[direntType] = 3 // EROFS_FT_CHRDEV
		case unix.S_IFBLK:
			entry[direntType] = 4 // EROFS_FT_BLKDEV
		}
		if _, _, err := e.inode(at, nid); err != nil {
			return err
		}
	}
	return nil
}
