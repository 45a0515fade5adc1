package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

// stage recreates the tree in the folder dir, as far as a user without root can: with every file
// except device nodes, all owned by this user. Files are hard-linked rather than copied where
// possible.
func stage(ctx context.Context, t *filetree.Tree, dir string) error {
	used := inodes{}
	for n := range t.All() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := stageNode(ctx, n, dir, used); err != nil {
			return fmt.Errorf("disk: %q: %w", n.Path, err)
		}
	}
	return nil
}

// inodes is a set of host files, each identified by its device and inode number.
type inodes map[[2]uint64]bool

func stageNode(ctx context.Context, n *filetree.Node, dir string, used inodes) error {
	path := filepath.Join(dir, n.Path)
	if n.Link != "" {
		return os.Link(filepath.Join(dir, n.Link), path)
	}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return os.Mkdir(path, 0o700)
	case unix.S_IFLNK:
		return os.Symlink(n.Target, path)
	case unix.S_IFREG:
		return stageFile(ctx, n, path, used)
	case unix.S_IFIFO, unix.S_IFSOCK:
		return unix.Mknod(path, n.Mode&unix.S_IFMT|0o600, 0)
	case unix.S_IFCHR, unix.S_IFBLK:
		return nil
	}
	return fmt.Errorf("mode %#o has an unknown file type", n.Mode)
}

// stageFile creates the file at path: a hard link to the host file with the content of n, or else a
// copy of this host file. A host file is linked only once: two files of the tree that share a host
// file must not become one file in the staging folder. used holds the linked host files.
func stageFile(ctx context.Context, n *filetree.Node, path string, used inodes) error {
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	id := [2]uint64{st.Dev, st.Ino}
	if used[id] {
		return copySparse(ctx, path, f)
	}
	used[id] = true
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EMLINK), errors.Is(err, unix.EOPNOTSUPP):
		// The file is in another file system, belongs to another user (proc(5),
		// protected_hardlinks) or has too many links, or its file system has no hard links.
		return copySparse(ctx, path, f)
	case err != nil:
		return &os.LinkError{Op: "link", Old: f.Name(), New: path, Err: err}
	}
	return nil
}
