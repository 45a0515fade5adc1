package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The platform of guests, as in image-index.md (GOOS and GOARCH).
const (
	guestOS           = "linux"
	guestArchitecture = "amd64"
)

// Limits on the search from an index to a manifest: an index may contain indexes.
const (
	maxDepth = 4
	maxTried = 16 // entries without a platform that are tried in one index
)

// platformError reports that an image is only available for other platforms.
type platformError struct{ has []string }

func (e platformError) Error() string {
	slices.Sort(e.has)
	has := strings.Join(slices.Compact(e.has), ", ")
	return fmt.Sprintf("no image for %s/%s: available for %s", guestOS, guestArchitecture, cmp.Or(has, "nothing"))
}

// suits reports whether a guest can run a platform's images. Variants of amd64 require newer CPUs.
func suits(p *v1.Platform) bool {
	return p != nil && p.OS == guestOS && p.Architecture == guestArchitecture
}

func platformName(p *v1.Platform) string {
	if p == nil {
		return "an unspecified platform"
	}
	return p.String()
}

// document is a manifest or an index. Each of the two has only some of the fields.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	Manifests     []v1.Descriptor `json:"manifests"`
	v1.Manifest
}

// descend follows a descriptor of an index or a manifest to the image for this platform.
func descend(ctx context.Context, st store, d v1.Descriptor, depth int) (*Image, error) {
	if depth == maxDepth {
		return nil, invalidf("%s: indexes are nested more than %d deep", d.Digest, maxDepth)
	}
	b, err := fetch(ctx, st.manifest, d, maxManifest)
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
		return nil, invalidf("manifest %s: no configuration: schema version %d, or not an image", d.Digest, doc.SchemaVersion)
	}
	return readImage(ctx, st, &doc.Manifest)
}

// pick returns the first image for this platform among an index's entries. It tries entries for
// every amd64 CPU first, then entries for newer CPUs, then entries without a platform.
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
		case p.OS != "unknown": // attestations have this platform
			other.has = append(other.has, platformName(p))
		}
	}
	if matching := append(plain, newer...); len(matching) > 0 {
		return descend(ctx, st, matching[0], depth)
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
