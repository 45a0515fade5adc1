package filetree

import (
	"bytes"
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

// AddDir overlays the tree with the content of the folder src on the host, including owners, modes,
// times, extended attributes, device nodes and hard links. The folder src itself becomes the root
// of the tree. Files are not copied and must not change while the tree is in use.
func (t *Tree) AddDir(ctx context.Context, src string) error {
	return t.addDir(ctx, src, func(*Node) {})
}

// AddDirAs is like AddDir, but sets one owner for all files. It is for files that a user unpacked
// or built without root: they belong to this user on the host, but should belong to root in the
// guest.
func (t *Tree) AddDirAs(ctx context.Context, src string, uid, gid uint32) error {
	return t.addDir(ctx, src, func(n *Node) { n.UID, n.GID = uid, gid })
}

// addDir adds the folder src. It calls change for each node before it adds the node.
func (t *Tree) addDir(ctx context.Context, src string, change func(*Node)) error {
	src, err := filepath.Abs(src)
	if err != nil {
		return fmt.Errorf("filetree: %w", err)
	}
	// src may be a symbolic link. Symbolic links below src are not followed.
	root, err := unix.Open(src, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("filetree: %w", &os.PathError{Op: "open", Path: src, Err: err})
	}
	defer unix.Close(root)
	d := &dirReader{ctx: ctx, layer: t.newLayer(), src: src, change: change, first: map[fileID]*inode{}, buf: make([]byte, maxXattrValue)}
	if err := d.add(root, ""); err != nil {
		return named("filetree", err)
	}
	return d.layer.apply()
}

// dirReader reads a folder whose owner may replace its files at the same time. It opens each file
// once, relative to the open parent folder, and reads all metadata of the file from this one
// descriptor.
type dirReader struct {
	ctx    context.Context
	layer  *layer
	src    string
	change func(*Node)
	first  map[fileID]*inode // files with more than one hard link
	buf    []byte            // for extended attributes
}

// add adds the file that fd, an O_PATH descriptor, refers to. p is the file's path below src.
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
	if n.Xattrs, err = d.xattrs(procPath(fd), host); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if first := d.first[idOf(&st)]; first != nil {
			return named(host, d.layer.place(p, first))
		}
		if err := d.layer.t.chargeSize(st.Size); err != nil {
			return named(host, err)
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
	if err := named(host, d.layer.put(n)); err != nil {
		return err
	}
	if n.isFile() && st.Nlink > 1 {
		d.first[n.id] = d.layer.root.find(p).inode
	}
	if !n.IsDir() {
		return nil
	}
	return d.addBelow(fd, p, host)
}

// addBelow adds the content of the folder that fd refers to. p is the folder's path below src.
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
		err = d.add(below, filepath.Join(p, name))
		unix.Close(below)
		if err != nil {
			return err
		}
	}
	return nil
}

// xattrs returns those extended attributes of the file at path that this process may read. If the
// file system does not support extended attributes, it returns none. Error texts show name as the
// file's path.
func (d *dirReader) xattrs(path, name string) (map[string][]byte, error) {
	size, err := unix.Listxattr(path, d.buf)
	switch {
	case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EPERM), err == nil && size == 0:
		return nil, nil
	case err != nil:
		return nil, &os.PathError{Op: "listxattr", Path: name, Err: err}
	}
	all := map[string][]byte{}
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(d.buf[:size]), "\x00"), "\x00") {
		size, err := unix.Getxattr(path, attr, d.buf)
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + attr, Path: name, Err: err}
		}
		all[attr] = bytes.Clone(d.buf[:size])
	}
	return all, nil
}
