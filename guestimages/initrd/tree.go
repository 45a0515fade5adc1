package initrd

import (
	"fmt"

	"minivmm/guestimages/filetree"
)

// AddTree adds all that is below the root of a tree. What an initial RAM file system cannot say is left out: extended
// attributes, times, and the root itself, which is the kernel's own, owned by root with mode 0755. The content of files is
// read when the archive is written.
func (a *Archive) AddTree(t *filetree.Tree) error {
	for n := range t.All() {
		owner := Owner{UID: n.UID, GID: n.GID}
		switch n.Mode & typeMask {
		case typeDir:
			a.Dir(n.Path, n.Mode, owner)
		case typeFile:
			if n.Link != "" {
				a.Link(n.Path, n.Link)
				continue
			}
			a.HostFile(n.Path, n.Mode, owner, n.File(), n.SizeBytes)
		case typeSymlink:
			a.add(n.Path, entry{mode: n.Mode, owner: owner, data: []byte(n.Target)})
		case typeChar:
			a.CharDevice(n.Path, n.Mode, owner, n.Major, n.Minor)
		case typeBlock:
			a.BlockDevice(n.Path, n.Mode, owner, n.Major, n.Minor)
		case typeFifo:
			a.Fifo(n.Path, n.Mode, owner)
		case typeSocket:
			a.Socket(n.Path, n.Mode, owner)
		default:
			return fmt.Errorf("initrd: %s: mode %#o is of no known file type", n.Path, n.Mode)
		}
	}
	return nil
}
