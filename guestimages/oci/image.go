package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"minivmm/guestimages/filetree"
)

// InvalidError reports a problem with the image or its name: the image does not exist, is damaged,
// or is for another platform. Errors of the host or the network are not InvalidErrors.
type InvalidError struct{ error }

func (e InvalidError) Unwrap() error { return e.error }

func invalidf(format string, args ...any) error {
	return InvalidError{fmt.Errorf(format, args...)}
}

// invalid wraps err in an InvalidError unless err already is one.
func invalid(err error) error {
	if err == nil || errors.As(err, &InvalidError{}) {
		return err
	}
	return InvalidError{err}
}

// classify turns an error in the image's own data into an InvalidError. Errors of the host, the
// network or the context stay as they are.
func classify(err error) error {
	var pathError *fs.PathError
	var linkError *os.LinkError
	var syscallError *os.SyscallError
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &pathError), errors.As(err, &linkError), errors.As(err, &syscallError):
		return err
	}
	return invalid(err)
}

// store gives access to the manifests and blobs of an image. It does not verify their content.
type store interface {
	// manifest opens a manifest or an index.
	manifest(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// blob opens a configuration or a layer.
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// close closes the store's files and connections.
	close() error
}

// Limits on data that is read into memory, in bytes. The distribution-spec allows registries to
// reject manifests of more than 4 MiB.
const (
	maxManifest = 4 << 20
	maxConfig   = 4 << 20
)

// Image is an image whose configuration has been read. Its layers are still in the store.
type Image struct {
	ID     string // digest of the configuration, "sha256:..."
	Config v1.ConfigFile

	layers []layer
	store  store
	root   v1.Hash // of the index or manifest that the name refers to; zero if only the configuration has a digest
}

// layer is a layer's blob, compressed or not.
type layer struct {
	name      string // for messages
	sizeBytes int64
	diffID    v1.Hash // of the tar in the blob
	open      func(context.Context) (io.ReadCloser, error)
	digest    v1.Hash // of the blob; zero: only the diffID is known
}

// open opens the image for linux/amd64. scratch is the path of a folder for temporary files: open
// creates the folder if it needs one, and leaves no file in it. The sizes of these files are
// bounded by limits. The caller must close the image.
func (r reference) open(ctx context.Context, scratch string, limits filetree.Limits) (_ *Image, err error) {
	var f files
	switch {
	case r.remote != nil:
		return openRemote(ctx, r.remote)
	case r.info.IsDir():
		var root *os.Root
		root, err = os.OpenRoot(r.path)
		f = folder{root}
	default:
		f, err = openArchive(ctx, r.path, scratch, limits)
	}
	if err != nil {
		return nil, err
	}
	return openFiles(ctx, f, r.tag)
}

// Close closes the image's files and connections.
func (im *Image) Close() error { return im.store.close() }

// readImage returns the image of a manifest, if the image is for linux/amd64.
func readImage(ctx context.Context, st store, m *v1.Manifest) (*Image, error) {
	b, err := fetch(ctx, st.blob, m.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	im, err := configured(b, len(m.Layers))
	if err != nil {
		return nil, err
	}
	im.ID, im.store = m.Config.Digest.String(), st
	for i, d := range m.Layers {
		if d.Size < 0 {
			return nil, invalidf("layer %d: invalid size of %d bytes", i+1, d.Size)
		}
		im.layers = append(im.layers, layer{
			name:      d.Digest.String(),
			sizeBytes: d.Size,
			diffID:    im.Config.RootFS.DiffIDs[i],
			open:      func(ctx context.Context) (io.ReadCloser, error) { return st.blob(ctx, d) },
			digest:    d.Digest,
		})
	}
	return im, nil
}

// configured returns an image with its configuration, but without layers, store and ID.
func configured(config []byte, layers int) (*Image, error) {
	c, err := v1.ParseConfigFile(bytes.NewReader(config))
	if err != nil {
		return nil, invalidf("configuration: %w", err)
	}
	if !suits(c.Platform()) {
		return nil, invalid(platformError{[]string{platformName(c.Platform())}})
	}
	if got := len(c.RootFS.DiffIDs); got != layers {
		return nil, invalidf("configuration: got %d diff_ids for %d layers", got, layers)
	}
	return &Image{Config: *c}, nil
}
