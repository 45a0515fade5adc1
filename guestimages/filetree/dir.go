package filetree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	root, err := unix.Open(src, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("filetree: %w", &os.PathError{Op: "open", Path: src, Err: err})
	}
	defer unix.Close(root)
	d := &dirReader{ctx: ctx, layer: t.newLayer(), src: src, change: change, first: map[fileID]*inode{}}
	if err := d.add(root, ""); err != nil {
		return fmt.Errorf("filetree: %w", err)
	}
	return d.layer.apply()
}

// dirReader reads a folder whose owner may exchange its files meanwhile: each is opened once, in the folder that is open
// already, and all that is said of it is asked of that descriptor.
type dirReader struct {
	ctx    context.Context
	layer  *layer
	src    string
	change func(*Node)
	first  map[fileID]*inode // files that have more than one name
}

// add adds the file of the descriptor fd of O_PATH, which is at path p below src.
func (d *dirReader) add(fd int, p string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	host := filepath.Join(d.src, p)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "fstat", Path: host, Err: err}
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
	if n.Xattrs, err = xattrs(procPath(fd), host); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if first := d.first[idOf(&st)]; first != nil {
			return d.named(host, d.layer.place(p, first))
		}
		if err := d.layer.t.chargeSize(st.Size); err != nil {
			return d.named(host, err)
		}
		n.file, n.id, n.SizeBytes = host, idOf(&st), st.Size
	case unix.S_IFLNK:
		target := make([]byte, maxPath+1)
		size, err := unix.Readlinkat(fd, "", target)
		if err != nil {
			return &os.PathError{Op: "readlink", Path: host, Err: err}
		}
		n.Target = string(target[:size])
	}
	if err := d.named(host, d.layer.put(n)); err != nil {
		return err
	}
	if n.Mode&unix.S_IFMT == unix.S_IFREG && st.Nlink > 1 {
		d.first[n.id] = d.layer.root.find(p).inode
	}
	if !n.IsDir() {
		return nil
	}
	return d.addBelow(fd, p, host)
}

// addBelow adds what is in the folder of the descriptor fd.
func (d *dirReader) addBelow(fd int, p, host string) error {
	f, err := reopen(fd, host)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		below, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: filepath.Join(host, name), Err: err}
		}
		err = d.add(below, join(p, name))
		unix.Close(below)
		if err != nil {
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

// xattrs reads the extended attributes of the file at path that the caller may see; a file system without them has none. The
// name is for errors.
func xattrs(path, name string) (map[string][]byte, error) {
	list, err := grow(func(p []byte) (int, error) { return unix.Listxattr(path, p) })
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "listxattr", Path: name, Err: err}
	}
	var all map[string][]byte
	for attr := range strings.SplitSeq(string(list), "\x00") {
		if attr == "" {
			continue
		}
		value, err := grow(func(p []byte) (int, error) { return unix.Getxattr(path, attr, p) })
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + attr, Path: name, Err: err}
		}
		if all == nil {
			all = map[string][]byte{}
		}
		all[attr] = value
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
