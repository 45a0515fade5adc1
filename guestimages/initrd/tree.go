package initrd

import (
	"fmt"

	"minivmm/guestimages/filetree"

	"golang.org/x/sys/unix"
)

// AddTree adds everything below the root of a tree. It leaves out what an initial RAM file system
// cannot express: extended attributes, times, and the root itself, which is the kernel's own, owned
// by root with mode 0755. The content of files is read when the archive is written.
func (a *Archive) AddTree(t *filetree.Tree) error {
	for n := range t.All() {
		e := entry{mode: n.Mode, uid: n.UID, gid: n.GID, major: n.Major, minor: n.Minor}
		switch n.Mode & unix.S_IFMT {
		case unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK:
		case unix.S_IFREG:
			if n.Link != "" {
				e.link = clean(n.Link)
				break
			}
			e.open, e.size = n.Open, n.SizeBytes
		case unix.S_IFLNK:
			e.data = []byte(n.Target)
		default:
			return fmt.Errorf("initrd: %s: mode %#o has an unknown file type", n.Path, n.Mode)
		}
		a.add(n.Path, e)
	}
	return nil
}
