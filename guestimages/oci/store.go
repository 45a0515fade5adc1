package oci

import (
	"context"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// store is where the manifests and blobs of an image are. What it hands out is unchecked.
type store interface {
	// manifest opens a manifest or an index.
	manifest(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// blob opens a configuration or a layer.
	blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error)
	// close frees what the store holds.
	close() error
}

// Limits on what is read into memory, in bytes. The distribution-spec lets registries refuse manifests of more than 4 MiB.
const (
	maxManifest = 4 << 20
	maxConfig   = 4 << 20
)
