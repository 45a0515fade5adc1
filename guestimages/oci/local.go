package oci

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// openFiles opens an image in a layout or in an archive of docker save. Newer archives of docker
// save are both; openFiles then uses the layout, which has digests for everything. f is closed with
// the image, or on error.
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
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b, err = readFile(f, "manifest.json", maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, invalidf("not an OCI layout (no index.json) and not an archive of docker save (no manifest.json)")
	}
	if err != nil {
		return nil, err
	}
	return openSaved(f, b, tag)
}

// Annotations that name an image in a layout's index: the one of image-spec annotations.md, and
// containerd's with the full name.
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
	silent := false
	for _, d := range doc.Manifests {
		if slices.ContainsFunc(entries, func(e v1.Descriptor) bool { return e.Digest == d.Digest }) {
			continue
		}
		names = append(names, name(d))
		if isNamed(tag, d.Annotations[containerName], d.Annotations[refName]) {
			entries = append(entries, d)
			silent = silent || d.Platform == nil
		}
	}
	switch {
	case len(entries) == 0:
		return nil, notNamed(tag, names)
	case len(entries) > 1 && (silent || slices.ContainsFunc(entries, func(d v1.Descriptor) bool { return name(d) != name(entries[0]) })):
		return nil, ambiguous(names)
	}
	// Several entries with the same name are one image for several platforms.
	return pick(ctx, l, entries, 0)
}

// isNamed reports whether a tag selects an image with these names. It matches a whole name or its
// end.
func isNamed(tag string, names ...string) bool {
	return tag == "" || slices.ContainsFunc(names, func(s string) bool {
		return s == tag || strings.HasSuffix(s, ":"+tag) || strings.HasSuffix(s, "/"+tag)
	})
}

func notNamed(tag string, names []string) error {
	if tag == "" {
		return invalidf("contains no image")
	}
	return invalidf("contains no image named %q%s", tag, listed(names))
}

func ambiguous(names []string) error {
	return invalidf("contains several images: select one with oci:PATH:TAG%s", listed(names))
}

// listed returns the first names, for the end of an error.
func listed(names []string) string {
	names = slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "" })
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("; available: %q", names[:min(len(names), 10)])
}

// saved is an image in manifest.json of an archive of docker save. Config and Layers are names of
// files in the archive.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func openSaved(f files, manifest []byte, tag string) (*Image, error) {
	var images []saved
	if err := json.Unmarshal(manifest, &images); err != nil {
		return nil, invalidf("manifest.json: %w", err)
	}
	var names []string
	var found []saved
	for _, s := range images {
		names = append(names, s.RepoTags...)
		if isNamed(tag, s.RepoTags...) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		return nil, notNamed(tag, names)
	case 1:
	default:
		return nil, ambiguous(names)
	}
	image := found[0]
	config, err := readFile(f, image.Config, maxConfig)
	if err != nil {
		return nil, invalidf("configuration: %w", err)
	}
	sum := sha256.Sum256(config)
	id := hex.EncodeToString(sum[:])
	// The file is named after its digest, in one of several forms.
	named := strings.TrimPrefix(strings.TrimSuffix(path.Base(image.Config), ".json"), "sha256:")
	if raw, err := hex.DecodeString(named); err == nil && len(raw) == len(sum) && named != id {
		return nil, invalidf("configuration: %s is damaged: the digest of its content is sha256:%s", image.Config, id)
	}
	im, err := configured(config, len(image.Layers))
	if err != nil {
		return nil, err
	}
	im.ID, im.store = "sha256:"+id, layout{f}
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
