package oci

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The platform of guests, in the words of image-index.md (GOOS and GOARCH).
const (
	guestOS           = "linux"
	guestArchitecture = "amd64"
)

// Bounds on the walk from an index to a manifest: an index may hold indexes.
const (
	maxDepth = 4
	maxTried = 16 // entries of one index that do not say their platform
)

// platformError says that what was found is for other machines.
type platformError struct{ has []string }

func (e platformError) Error() string {
	slices.Sort(e.has)
	has := strings.Join(slices.Compact(e.has), ", ")
	if has == "" {
		has = "nothing"
	}
	return fmt.Sprintf("no image for %s/%s: it has %s", guestOS, guestArchitecture, has)
}

// suits says whether a guest can run an image of that platform. Variants of amd64 name newer CPUs.
func suits(p *v1.Platform) bool {
	return p != nil && p.OS == guestOS && p.Architecture == guestArchitecture
}

func platformName(p *v1.Platform) string {
	if p == nil {
		return "one of no platform"
	}
	return p.String()
}

// document is a manifest or an index: each has its own of the fields.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	Manifests     []v1.Descriptor `json:"manifests"`
	v1.Manifest
}

// descend goes from what a descriptor names, an index or a manifest, to the image for this platform.
func descend(ctx context.Context, st store, d v1.Descriptor, depth int) (*Image, error) {
	if depth == maxDepth {
		return nil, invalidf("%s: indexes in indexes, more than %d deep", d.Digest, maxDepth)
	}
	r, err := st.manifest(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	defer r.Close()
	b, err := readAll(r, d, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var doc document
	if err := json.Unmarshal(b, &doc); err != nil {
		return nil, invalidf("manifest %s: %w", d.Digest, err)
	}
	switch {
	case doc.Manifests != nil:
		return pick(ctx, st, doc.Manifests, depth+1)
	case doc.Config.Digest.Hex == "":
		return nil, invalidf("manifest %s: names no configuration: it is of schema version %d, or no image", d.Digest, doc.SchemaVersion)
	}
	return readImage(ctx, st, &doc.Manifest)
}

// pick returns the first image for this platform among an index's entries: those that say so, the ones for every amd64
// before the ones for newer CPUs, then those that say nothing.
func pick(ctx context.Context, st store, entries []v1.Descriptor, depth int) (*Image, error) {
	var plain, newer, silent []v1.Descriptor
	var other platformError
	for _, d := range entries {
		switch p := d.Platform; {
		case p == nil:
			silent = append(silent, d)
		case suits(p) && p.Variant == "":
			plain = append(plain, d)
		case suits(p):
			newer = append(newer, d)
		case p.OS != "unknown": // what it is called for attestations
			other.has = append(other.has, platformName(p))
		}
	}
	if said := append(plain, newer...); len(said) > 0 {
		return descend(ctx, st, said[0], depth)
	}
	for _, d := range silent[:min(len(silent), maxTried)] {
		im, err := descend(ctx, st, d, depth)
		var wrong platformError
		if errors.As(err, &wrong) {
			other.has = append(other.has, wrong.has...)
			continue
		}
		return im, err
	}
	return nil, invalid(other)
}
