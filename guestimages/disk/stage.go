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

// stage makes the folder dir look like the tree, as far as a user without root can: every name is there with its content,
// owned by this user. With devices as files, they are empty files; else they are left out. Contents are hard links where that
// is possible.
func stage(ctx context.Context, t *filetree.Tree, dir string, opt stageOptions) error {
	used := map[fileID]bool{}
	for n := range t.All() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := stageNode(ctx, n, dir, opt, used); err != nil {
			return fmt.Errorf("disk: %q: %w", n.Path, err)
		}
	}
	return nil
}

type stageOptions struct {
	devices bool // as empty files
	copy    bool // contents are copies: their times or attributes will be changed
}

// fileID is a file of the host.
type fileID struct{ dev, ino uint64 }

func stageNode(ctx context.Context, n *filetree.Node, dir string, opt stageOptions, used map[fileID]bool) error {
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
		return stageFile(ctx, n, path, opt, used)
	case unix.S_IFIFO, unix.S_IFSOCK:
		return unix.Mknod(path, n.Mode&unix.S_IFMT|0o600, 0)
	case unix.S_IFCHR, unix.S_IFBLK:
		if opt.devices {
			return os.WriteFile(path, nil, 0o600)
		}
		return nil
	}
	return fmt.Errorf("mode %#o is of no known file type", n.Mode)
}

// stageFile links a file's content to path, or copies it: two nodes that are different files in the tree may not become
// one in the staging folder because their content is in one file of the host.
func stageFile(ctx context.Context, n *filetree.Node, path string, opt stageOptions, used map[fileID]bool) error {
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	id := fileID{st.Dev, st.Ino}
	if opt.copy || used[id] {
		return copySparse(ctx, path, f)
	}
	used[id] = true
	err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, path, unix.AT_SYMLINK_FOLLOW)
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EMLINK), errors.Is(err, unix.EOPNOTSUPP):
		// another file system, someone else's file (proc(5), protected_hardlinks), as many links as can be, no links at all
		return copySparse(ctx, path, f)
	case err != nil:
		return &os.LinkError{Op: "link", Old: f.Name(), New: path, Err: err}
	}
	return nil
}
