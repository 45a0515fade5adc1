package oci

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// openFiles opens an image in an OCI layout or in an archive that docker save wrote. Newer archives
// are also layouts; openFiles then reads the archive as a layout, which has digests for everything.
// openFiles closes f on error; otherwise the image's Close closes it.
func openFiles(ctx context.Context, f files, tag string) (im *Image, err error) {
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	b, err := readFile(f, "index.json", maxManifest)
	if err == nil {
		return openLayout(ctx, layout{f}, b, tag)
	}
	if errors.Is(err, fs.ErrNotExist) {
		b, err = readFile(f, "manifest.json", maxManifest)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, invalidf("not an OCI layout (no index.json) and not an archive of docker save (no manifest.json)")
	case err != nil:
		return nil, err
	}
	return openSaved(f, b, tag)
}

// Annotations that name an image in a layout's index. The first is defined in image-spec
// annotations.md. The second is containerd's, with the full name.
const (
	refName       = "org.opencontainers.image.ref.name"
	containerName = "io.containerd.image.name"
)

func openLayout(ctx context.Context, l layout, index []byte, tag string) (*Image, error) {
	var doc document
	if err := json.Unmarshal(index, &doc); err != nil {
		return nil, invalidf("index.json: %w", err)
	}
	name := func(d v1.Descriptor) string { return cmp.Or(d.Annotations[containerName], d.Annotations[refName]) }
	var entries []v1.Descriptor
	var names []string
	for _, d := range doc.Manifests {
		if slices.ContainsFunc(entries, func(e v1.Descriptor) bool { return e.Digest == d.Digest }) {
			continue
		}
		names = append(names, name(d))
		if isNamed(tag, d.Annotations[containerName], d.Annotations[refName]) {
			entries = append(entries, d)
		}
	}
	// Several entries with platforms and the same name are one image for several platforms.
	several := len(entries) > 1 && slices.ContainsFunc(entries, func(d v1.Descriptor) bool {
		return d.Platform == nil || name(d) != name(entries[0])
	})
	if err := checkChoice(tag, names, len(entries) > 0, several); err != nil {
		return nil, err
	}
	return pick(ctx, l, entries, 0)
}

// isNamed reports whether tag selects an image with the given names: tag must equal a whole name or
// the part of a name after a ":" or "/". An empty tag selects any image.
func isNamed(tag string, names ...string) bool {
	return tag == "" || slices.ContainsFunc(names, func(s string) bool {
		return s == tag || strings.HasSuffix(s, ":"+tag) || strings.HasSuffix(s, "/"+tag)
	})
}

// checkChoice returns an error if tag selects no image, or if it selects several. The error lists
// the first ten names.
func checkChoice(tag string, names []string, found, several bool) error {
	list := ""
	names = slices.DeleteFunc(names, func(s string) bool { return s == "" })
	if len(names) > 0 {
		list = fmt.Sprintf("; available: %q", names[:min(len(names), 10)])
	}
	switch {
	case !found && tag == "":
		return invalidf("contains no image")
	case !found:
		return invalidf("contains no image named %q%s", tag, list)
	case several:
		return invalidf("contains several images: select one with oci:PATH:TAG%s", list)
	}
	return nil
}

func openSaved(f files, manifest []byte, tag string) (*Image, error) {
	var images tarball.Manifest
	if err := json.Unmarshal(manifest, &images); err != nil {
		return nil, invalidf("manifest.json: %w", err)
	}
	var names []string
	var found tarball.Manifest
	for _, s := range images {
		names = append(names, s.RepoTags...)
		if isNamed(tag, s.RepoTags...) {
			found = append(found, s)
		}
	}
	if err := checkChoice(tag, names, len(found) > 0, len(found) > 1); err != nil {
		return nil, err
	}
	image := found[0]
	config, err := readFile(f, image.Config, maxConfig)
	if err != nil {
		return nil, invalidf("configuration: %w", err)
	}
	id, _, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	// The name of the configuration file contains the file's digest, in one of several forms.
	named := strings.TrimPrefix(strings.TrimSuffix(path.Base(image.Config), ".json"), "sha256:")
	if want, err := v1.NewHash("sha256:" + named); err == nil && want != id {
		return nil, invalidf("configuration: %s is damaged: the digest of its content is %s", image.Config, id)
	}
	im, err := configured(config, len(image.Layers))
	if err != nil {
		return nil, err
	}
	im.ID, im.store = id.String(), layout{f}
	for i, name := range image.Layers {
		r, sizeBytes, err := open(f, name)
		if err != nil {
			return nil, err
		}
		r.Close()
		im.layers = append(im.layers, layer{
			name:      name,
			sizeBytes: sizeBytes,
			diffID:    im.Config.RootFS.DiffIDs[i],
			open: func(context.Context) (io.ReadCloser, error) {
				r, _, err := open(f, name)
				return r, err
			},
		})
	}
	return im, nil
}

// files gives access to the files of a folder or a tar. The error for a missing file is
// fs.ErrNotExist.
type files interface {
	open(name string) (r io.ReadCloser, sizeBytes int64, err error)
	close() error
}

// layout is a store that reads an OCI image layout (image-spec image-layout.md).
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

// folder is a folder on the host. Symbolic links in it cannot lead out of it.
//
// layout.Path of go-containerregistry cannot replace it: it follows a link at blobs/sha256 that
// leads out of the folder, rejects links that stay in the folder, and reads the index, manifests
// and configurations without a size limit and without verifying their digests.
type folder struct{ root *os.Root }

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

// readFile returns the content of a file. The file may have at most limit bytes.
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
