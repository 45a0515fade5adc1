package filetree

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of Linux on names: NAME_MAX and PATH_MAX without its zero byte, uapi/linux/limits.h.
const (
	maxName = 255
	maxPath = 4095
)

// clean turns a path as people and tars write it into one of the tree: relative to its root, which is "", with single slashes.
func clean(p string) (string, error) {
	if strings.IndexByte(p, 0) >= 0 {
		return "", errors.New("a NUL in the path")
	}
	var names []string
	for name := range strings.SplitSeq(p, "/") {
		switch {
		case name == "" || name == ".":
		case name == "..":
			return "", errors.New(`".." in the path`)
		case len(name) > maxName:
			return "", fmt.Errorf("a name of %d bytes in the path, more than %d", len(name), maxName)
		default:
			names = append(names, name)
		}
	}
	cleaned := strings.Join(names, "/")
	if len(cleaned) > maxPath {
		return "", fmt.Errorf("a path of %d bytes, more than %d", len(cleaned), maxPath)
	}
	return cleaned, nil
}

// split parts a clean path into its folder and its last name.
func split(p string) (dir, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// short is a name as it stands in errors: quoted, and cut where it is too long for a line.
func short(name string) string {
	const most = 200
	if len(name) > most {
		return fmt.Sprintf("%q... (%d bytes)", name[:most], len(name))
	}
	return fmt.Sprintf("%q", name)
}

// cut parts a clean path into its first name and the rest.
func cut(p string) (name, rest string) {
	name, rest, _ = strings.Cut(p, "/")
	return name, rest
}
