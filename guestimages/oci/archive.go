package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"minivmm/guestimages/filetree"
	"minivmm/internal/unpack"
)

// maxEntries limits the number of entries in an archive. An image has a few entries for each layer.
const maxEntries = 1 << 16

// maxName limits the length of each name that is kept in memory, and maxNames limits the total
// length of all these names, both in bytes.
const (
	maxName  = 1 << 10
	maxNames = 4 << 20
)

// archive is a tar archive whose regular files are read in place.
//
// tarball.Image of go-containerregistry cannot replace it: it reads manifest.json and the
// configuration without a size limit, reads the archive from its start for each layer, and looks
// for the target of a hard link in the link's own folder, but docker save before version 25 puts
// the target elsewhere.
type archive struct {
	file    *os.File
	entries map[string]entry
}

// entry is a file in an archive, or a link to another file.
type entry struct {
	off, sizeBytes int64
	link           string
}

// openArchive opens and lists the archive at path. A compressed archive is first unpacked into an
// unnamed file in the folder named by scratch. limits restricts the size of that file.
func openArchive(ctx context.Context, path, scratch string, limits filetree.Limits) (files, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	plain, err := unpacked(ctx, f, scratch, limits)
	if plain != f {
		f.Close()
	}
	if err != nil {
		return nil, err
	}
	entries, err := list(ctx, plain)
	if err != nil {
		plain.Close()
		return nil, invalidf("not a complete tar archive: %w", err)
	}
	return archive{plain, entries}, nil
}

// unpacked returns a file with the uncompressed content of f, or f itself if f is not compressed.
// On error the file is nil.
func unpacked(ctx context.Context, f *os.File, scratch string, limits filetree.Limits) (*os.File, error) {
	r, format, err := unpack.NewReader(f)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if format == "" {
		_, err := f.Seek(0, io.SeekStart)
		return f, err
	}
	if err := os.MkdirAll(scratch, 0o755); err != nil {
		return nil, err
	}
	tmp, err := os.CreateTemp(scratch, ".unpacked-*")
	if err != nil {
		return nil, err
	}
	// An unnamed file disappears with this process, however it exits.
	if err = os.Remove(tmp.Name()); err == nil {
		_, err = io.Copy(tmp, limits.Reader(ctx, r))
	}
	if errors.Is(err, filetree.ErrTooLarge) {
		err = invalidf("the uncompressed archive exceeds the size limit")
	}
	if err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
	}
	if err != nil {
		tmp.Close()
		return nil, classify(err)
	}
	return tmp, nil
}

func list(ctx context.Context, f *os.File) (map[string]entry, error) {
	entries := make(map[string]entry)
	r := tar.NewReader(f)
	kept := 0
	for range maxEntries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := r.Next()
		if err == io.EOF {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		// An image's files have short names. Longer names, of up to 1 MiB each, would only
		// use memory.
		if len(h.Name) > maxName || len(h.Linkname) > maxName {
			continue
		}
		// Clone, because a name may share memory with a header of 1 MiB.
		name, target := strings.Clone(path.Clean(h.Name)), strings.Clone(h.Linkname)
		if kept += len(name) + len(target); kept > maxNames {
			return nil, fmt.Errorf("more than %d bytes of names", maxNames)
		}
		switch h.Typeflag {
		case tar.TypeReg:
			// archive/tar reads whole blocks, so the file offset is now the start of the content.
			off, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			entries[name] = entry{off: off, sizeBytes: h.Size}
		case tar.TypeSymlink:
			entries[name] = entry{link: path.Join(path.Dir(name), target)}
		case tar.TypeLink:
			entries[name] = entry{link: path.Clean(target)}
		}
	}
	return nil, fmt.Errorf("more than %d entries", maxEntries)
}

func (a archive) open(name string) (r io.ReadCloser, sizeBytes int64, err error) {
	e, ok := a.entries[path.Clean(name)]
	// docker save before version 25 stores identical layers as links.
	for n := 0; ok && e.link != "" && n < 8; n++ {
		e, ok = a.entries[e.link]
	}
	if !ok || e.link != "" {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.file, e.off, e.sizeBytes)), e.sizeBytes, nil
}

func (a archive) close() error { return a.file.Close() }
