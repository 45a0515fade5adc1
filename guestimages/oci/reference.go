package oci

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
)

// Prefix marks an image name as the path of a local file or folder (oci:PATH[:TAG]), as opposed to
// a registry name.
const Prefix = "oci:"

// reference is the parsed name of an image. Either path or remote is set.
type reference struct {
	path   string // a layout's folder, or an archive
	info   fs.FileInfo
	tag    string // selects one of several images at path; "": there is only one
	remote name.Reference
}

// parse parses the name of an image. A name that starts with "oci:", "/", "./" or "../" is a local
// path. Any other name is a registry name, even if a file with this name exists.
func parse(s string) (reference, error) {
	path, local := strings.CutPrefix(s, Prefix)
	if path == "" {
		return reference{}, invalidf("image name is empty: want a local path or a registry name")
	}
	if !local && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "./") && !strings.HasPrefix(s, "../") {
		return parseRemote(s)
	}
	// The path may contain colons too: use the longest path that exists.
	for end := len(path); end > 0; end = strings.LastIndexByte(path[:end], ':') {
		info, err := os.Stat(path[:end])
		if err == nil {
			return reference{path: path[:end], info: info, tag: strings.TrimPrefix(path[end:], ":")}, nil
		}
	}
	_, err := os.Stat(path)
	return reference{}, invalid(err)
}

func parseRemote(s string) (reference, error) {
	file, _, _ := strings.Cut(filepath.Base(s), ":")
	if strings.HasSuffix(file, ".tar") || strings.HasSuffix(file, ".tar.gz") || strings.HasSuffix(file, ".tgz") {
		return reference{}, invalidf("this is a registry name, but looks like a file: write ./%s to use the file", s)
	}
	ref, err := name.ParseReference(s)
	if err != nil {
		return reference{}, invalidf("not a valid registry name (%w); for a local file or folder, write ./ before its name", err)
	}
	return reference{remote: ref}, nil
}
