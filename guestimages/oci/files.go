package oci

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// files is read-only access to named files in a folder or a tar. open returns fs.ErrNotExist for a
// missing file.
type files interface {
	open(name string) (r io.ReadCloser, sizeBytes int64, err error)
	close() error
}

// layout is a store for an OCI image layout (image-spec image-layout.md).
type layout struct{ files }

func (l layout) manifest(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	return l.blob(ctx, d)
}

func (l layout) blob(_ context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	r, _, err := open(l, "blobs/"+d.Digest.Algorithm+"/"+d.Digest.Hex)
	return r, err
}

// open opens a file that the image refers to.
func open(f files, name string) (r io.ReadCloser, sizeBytes int64, err error) {
	r, sizeBytes, err = f.open(name)
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = invalidf("part of the image is missing: %w", err)
	case err != nil && !errors.As(err, &errno): // a link points out of the folder
		err = invalid(err)
	}
	return r, sizeBytes, err
}

// folder is a folder in which links cannot point outside.
type folder struct{ root *os.Root }

func openFolder(path string) (files, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return folder{root}, nil
}

func (f folder) open(name string) (r io.ReadCloser, sizeBytes int64, err error) {
	// O_NONBLOCK: opening a pipe without a writer must not block.
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = invalidf("%s is not a regular file", file.Name())
	}
	if err != nil {
		file.Close()
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func (f folder) close() error { return f.root.Close() }

// readFile returns the content of a file of at most limit bytes.
func readFile(f files, name string, limit int64) ([]byte, error) {
	r, _, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, invalidf("%s is too long: at most %d bytes are supported", name, limit)
	}
	return b, err
}
