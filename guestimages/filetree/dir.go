package filetree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// AddDir lays the content of the host's folder src over the tree, with owners, modes, times, extended attributes, device
// nodes and hard links; src itself becomes the root. Files are not copied, and must not change while the tree is used.
func (t *Tree) AddDir(ctx context.Context, src string) error {
	return t.addDir(ctx, src, func(*Node) {})
}

// AddDirAs is AddDir with one owner for all: what a user without root has unpacked or built is the user's on the host, but
// root's in the guest.
func (t *Tree) AddDirAs(ctx context.Context, src string, uid, gid uint32) error {
	return t.addDir(ctx, src, func(n *Node) { n.UID, n.GID = uid, gid })
}

// addDir adds a folder; change may change each node first.
func (t *Tree) addDir(ctx context.Context, src string, change func(*Node)) error {
	src, err := filepath.Abs(src)
	if err != nil {
		return fmt.Errorf("filetree: %w", err)
	}
	// src may be a symbolic link; nothing below it is followed.
	if src, err = filepath.EvalSymlinks(src); err != nil {
		return fmt.Errorf("filetree: %w", err)
	}
	d := &dirReader{ctx: ctx, layer: t.newLayer(), src: src, change: change, first: map[inodeNumber]string{}}
	if err := d.add(""); err != nil {
		return fmt.Errorf("filetree: %w", err)
	}
	return d.layer.apply()
}

type dirReader struct {
	ctx    context.Context
	layer  *layer
	src    string
	change func(*Node)
	first  map[inodeNumber]string // paths of files that have more than one name
}

// inodeNumber names a file of the host.
type inodeNumber struct{ dev, ino uint64 }

// add adds what is at path p below src.
func (d *dirReader) add(p string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	host := filepath.Join(d.src, p)
	var st unix.Stat_t
	if err := unix.Lstat(host, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: host, Err: err}
	}
	n := Node{
		Path:    p,
		Mode:    st.Mode,
		UID:     st.Uid,
		GID:     st.Gid,
		Major:   unix.Major(st.Rdev),
		Minor:   unix.Minor(st.Rdev),
		ModTime: time.Unix(st.Mtim.Unix()),
	}
	d.change(&n)
	var err error
	if n.Xattrs, err = xattrs(host); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if st.Nlink > 1 {
			id := inodeNumber{st.Dev, st.Ino}
			if first, ok := d.first[id]; ok {
				return d.named(host, d.layer.link(p, first))
			}
			d.first[id] = p
		}
		if err := d.layer.t.chargeSize(st.Size); err != nil {
			return d.named(host, err)
		}
		n.file, n.SizeBytes = host, st.Size
	case unix.S_IFLNK:
		if n.Target, err = os.Readlink(host); err != nil {
			return err
		}
	}
	if err := d.named(host, d.layer.put(n)); err != nil || !n.IsDir() {
		return err
	}
	entries, err := os.ReadDir(host)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := d.add(join(p, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (d *dirReader) named(host string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", host, err)
}

// xattrs reads the extended attributes of a file of the host that the caller may see, or of the link that it is; a file
// system without them has none.
func xattrs(host string) (map[string][]byte, error) {
	list, err := grow(func(p []byte) (int, error) { return unix.Llistxattr(host, p) })
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "llistxattr", Path: host, Err: err}
	}
	var all map[string][]byte
	for name := range strings.SplitSeq(string(list), "\x00") {
		if name == "" {
			continue
		}
		value, err := grow(func(p []byte) (int, error) { return unix.Lgetxattr(host, name, p) })
		if err != nil {
			return nil, &os.PathError{Op: "lgetxattr " + name, Path: host, Err: err}
		}
		if all == nil {
			all = map[string][]byte{}
		}
		all[name] = value
	}
	return all, nil
}

// grow calls a read of a length that it can say first: the sizes of lists and of values are both bounded by 64 KiB.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	n, err := read(nil)
	if err != nil || n == 0 {
		return nil, err
	}
	p := make([]byte, maxXattrValue)
	if n, err = read(p); err != nil {
		return nil, err
	}
	return append([]byte(nil), p[:n]...), nil
}
