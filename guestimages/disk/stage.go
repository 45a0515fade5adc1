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
		return stageFile(ctx, n.File(), path, opt, used)
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
func stageFile(ctx context.Context, from, path string, opt stageOptions, used map[fileID]bool) error {
	var st unix.Stat_t
	if err := unix.Stat(from, &st); err != nil {
		return &os.PathError{Op: "stat", Path: from, Err: err}
	}
	// A file of one's own can be linked without leave to read it, and mke2fs has no errno for that.
	if err := unix.Faccessat(unix.AT_FDCWD, from, unix.R_OK, unix.AT_EACCESS); err != nil {
		return &os.PathError{Op: "read", Path: from, Err: err}
	}
	id := fileID{st.Dev, st.Ino}
	if opt.copy || used[id] {
		return copySparse(ctx, path, from)
	}
	used[id] = true
	err := os.Link(from, path)
	switch {
	case errors.Is(err, unix.EXDEV), errors.Is(err, unix.EPERM), errors.Is(err, unix.EMLINK), errors.Is(err, unix.EOPNOTSUPP):
		// another file system, someone else's file (proc(5), protected_hardlinks), as many links as can be, no links at all
		return copySparse(ctx, path, from)
	}
	return err
}
