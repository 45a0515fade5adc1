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

// parse says what a string means by its first characters alone: with "oci:", "/", "./" or "../" a path of this machine, else
// a name at a registry, whatever files there are.
func parse(s string) (reference, error) {
	path, local := strings.CutPrefix(s, Prefix)
	if path == "" {
		return reference{}, invalidf("an image is a path of this machine or a name at a registry, not empty")
	}
	if !local && !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "./") && !strings.HasPrefix(s, "../") {
		return parseRemote(s)
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

func parseRemote(s string) (reference, error) {
	file, _, _ := strings.Cut(filepath.Base(s), ":")
	for _, suffix := range []string{".tar", ".tar.gz", ".tgz"} {
		if strings.HasSuffix(file, suffix) {
			return reference{}, invalidf("it is a name at a registry, but seems to mean a file: write ./%s", s)
		}
	}
	ref, err := name.ParseReference(s)
	if err != nil {
		return reference{}, invalidf("not a name at a registry (%w); a file or folder needs ./ before its name", err)
	}
	return reference{remote: ref}, nil
}
