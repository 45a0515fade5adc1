package filetree

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of Linux on names: NAME_MAX, and PATH_MAX without the zero byte (uapi/linux/limits.h).
const (
	maxName = 255
	maxPath = 4095
)

// clean converts a path as people and tars write it to the form used in trees: relative to the
// root, with single slashes. The root is "".
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

// named prefixes an error with the name of what it is about.
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
