package filetree

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits of Linux on device numbers (MINORBITS, include/linux/kdev_t.h) and on extended attributes
// (XATTR_NAME_MAX and XATTR_SIZE_MAX, uapi/linux/limits.h).
const (
	maxMajor      = 1<<12 - 1
	maxMinor      = 1<<20 - 1
	maxXattrName  = 255
	maxXattrValue = 65536
)

// check returns an error for a node that cannot exist on Linux, and clears the fields that do not
// belong to the node's type.
func check(n *Node) error {
	if n.Mode&^(unix.S_IFMT|0o7777) != 0 {
		return fmt.Errorf("mode %#o has unknown bits", n.Mode)
	}
	old := *n
	n.Major, n.Minor, n.Target, n.SizeBytes, n.file, n.id = 0, 0, "", 0, "", fileID{}
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFDIR, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFREG:
		n.SizeBytes, n.file, n.id = old.SizeBytes, old.file, old.id
	case unix.S_IFLNK:
		n.Target = old.Target
		if n.Target == "" || len(n.Target) > maxPath || strings.Contains(n.Target, "\x00") {
			return fmt.Errorf("invalid symbolic link target of %d bytes: want 1 to %d bytes without NUL", len(n.Target), maxPath)
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		n.Major, n.Minor = old.Major, old.Minor
		if n.Major > maxMajor || n.Minor > maxMinor {
			return fmt.Errorf("device number %d:%d is too large: at most %d:%d", n.Major, n.Minor, maxMajor, maxMinor)
		}
	default:
		return fmt.Errorf("mode %#o has an unknown file type", n.Mode)
	}
	for name, value := range n.Xattrs {
		if name == "" || len(name) > maxXattrName || strings.Contains(name, "\x00") {
			return fmt.Errorf("extended attribute %s: want a name of 1 to %d bytes", short(name), maxXattrName)
		}
		if len(value) > maxXattrValue {
			return fmt.Errorf("extended attribute %s: %d bytes, want at most %d", short(name), len(value), maxXattrValue)
		}
	}
	return nil
}

// kind returns the name of a file type, with its article, for errors.
func kind(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return "a folder"
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a pipe"
	case unix.S_IFSOCK:
		return "a socket"
	}
	return "a device"
}
