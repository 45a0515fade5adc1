package lio

import (
	"os"
	"path/filepath"
)

// DefaultRoot is the path of LIO in configfs.
const DefaultRoot = "/sys/kernel/config/target"

// fileSystem is the set of operations on configfs. Tests use an implementation with plain files
// that behaves like configfs.
type fileSystem interface {
	// mkdir creates a configfs object.
	mkdir(path string) error
	// write writes an existing attribute with one write(2).
	write(path, value string) error
	// link creates a symbolic link to an object.
	link(object, path string) error
	// remove removes a link or an object.
	remove(path string) error
}

// kernelFS is the real configfs. A signal can interrupt the mkdir of a backstore, but package os
// retries interrupted calls.
type kernelFS struct{}

func (kernelFS) mkdir(path string) error { return os.Mkdir(path, 0o755) }

func (kernelFS) write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	f.Close()
	return err
}

func (kernelFS) link(object, path string) error { return os.Symlink(object, path) }

func (kernelFS) remove(path string) error { return os.Remove(path) }

// tree is LIO's part of configfs.
type tree struct {
	root string
	fs   fileSystem
}

var kernelTree = tree{DefaultRoot, kernelFS{}}

func (t tree) path(elem ...string) string {
	return filepath.Join(append([]string{t.root}, elem...)...)
}
