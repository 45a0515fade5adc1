package oci

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Prefix says that what follows is a file or folder on this machine, PATH[:TAG], and no name at a registry.
const Prefix = "oci:"

// reference is what names an image. Either path is set or remote is.
type reference struct {
	path   string // a layout's folder, or an archive
	info   fs.FileInfo
	tag    string // one of several images at path; "": the only one
	remote name.Reference
}

// parse says what a string means: a path of this machine if something is there, else a name at a registry.
func parse(s string) (reference, error) {
	path, local := strings.CutPrefix(s, Prefix)
	if path == "" {
		return reference{}, invalidf("an image is a path of this machine or a name at a registry, not empty")
	}
	if info, err := os.Stat(path); err == nil {
		return reference{path: path, info: info}, nil
	}
	if !local && !looksLocal(s) {
		ref, err := name.ParseReference(s)
		if err != nil {
			return reference{}, invalidf("neither a path of this machine nor a name at a registry: %w", err)
		}
		return reference{remote: ref}, nil
	}
	// The path may hold colons too: the longest one that exists counts.
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], ':') {
		info, err := os.Stat(path[:end])
		if err == nil {
			return reference{path: path[:end], info: info, tag: strings.TrimPrefix(path[end:], ":")}, nil
		}
	}
	_, err := os.Stat(path)
	return reference{}, invalid(err)
}

// looksLocal says whether a name that is no file is meant to be one.
func looksLocal(s string) bool {
	for _, prefix := range []string{"/", "./", "../"} {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	file, _, _ := strings.Cut(filepath.Base(s), ":")
	for _, suffix := range []string{".tar", ".tar.gz", ".tgz"} {
		if strings.HasSuffix(file, suffix) {
			return true
		}
	}
	return false
}
