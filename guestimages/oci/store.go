package oci

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

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
