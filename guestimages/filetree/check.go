package filetree

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Linux's limits on device numbers (MINORBITS, include/linux/kdev_t.h) and on extended attributes
// (XATTR_NAME_MAX and XATTR_SIZE_MAX, uapi/linux/limits.h).
const (
	maxMajor      = 1<<12 - 1
	maxMinor      = 1<<20 - 1
	maxXattrName  = 255
	maxXattrValue = 65536
)

// check refuses a node that cannot exist on Linux, and clears the fields that a node of its type
// does not have.
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

// kinds are the names of file types, with their articles, for error messages.
var kinds = map[uint32]string{
	unix.S_IFDIR: "a folder", unix.S_IFREG: "a regular file", unix.S_IFLNK: "a symbolic link",
	unix.S_IFIFO: "a pipe", unix.S_IFSOCK: "a socket", unix.S_IFCHR: "a device", unix.S_IFBLK: "a device",
}

func kind(mode uint32) string { return kinds[mode&unix.S_IFMT] }

// Linux's limits on names (NAME_MAX) and on paths (PATH_MAX without the zero byte), from
// uapi/linux/limits.h.
const (
	maxName = 255
	maxPath = 4095
)

// clean converts a path from a user or a tar file to the form used in trees: relative to the root,
// with single slashes. The root is "".
func clean(p string) (string, error) {
	if strings.IndexByte(p, 0) >= 0 {
		return "", errors.New("the path contains a NUL byte")
	}
	var names []string
	for name := range strings.SplitSeq(p, "/") {
		switch {
		case name == "" || name == ".":
		case name == "..":
			return "", errors.New(`the path contains ".."`)
		case len(name) > maxName:
			return "", fmt.Errorf("the path contains a name of %d bytes, want at most %d", len(name), maxName)
		default:
			names = append(names, name)
		}
	}
	cleaned := strings.Join(names, "/")
	if len(cleaned) > maxPath {
		return "", fmt.Errorf("the path has %d bytes, want at most %d", len(cleaned), maxPath)
	}
	return cleaned, nil
}

// split splits a clean path into its folder and its last name.
func split(p string) (dir, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}

// short formats a name for errors: quoted, and cut if it is too long for a line.
func short(name string) string {
	const most = 200
	if len(name) > most {
		return fmt.Sprintf("%q... (%d bytes)", name[:most], len(name))
	}
	return fmt.Sprintf("%q", name)
}

// named prefixes err with the text in what, which names the file or package that failed. If err is
// nil, named returns nil.
func named(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// cut splits a clean path into its first name and the rest.
func cut(p string) (name, rest string) {
	name, rest, _ = strings.Cut(p, "/")
	return name, rest
}
