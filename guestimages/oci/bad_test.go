package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/sys/unix"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/filetree"
)

// refused checks that Build fails for an image and leaves nothing in the cache.
func refused(t *testing.T, image string, o Options, want string) error {
	t.Helper()
	return refusedWith(t.Context(), t, image, o, want)
}

func refusedWith(ctx context.Context, t *testing.T, image string, o Options, want string) error {
	t.Helper()
	c := &cache.Cache{Root: t.TempDir()}
	d, err := Build(ctx, c, image, o)
	if err == nil {
		t.Fatalf("a disk was created: %+v", d)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got error %q, want it to contain %q", err, want)
	}
	if left := content(t, c.Root); len(left) > 0 {
		t.Errorf("left in the cache: %q", left)
	}
	return err
}

// content lists the files of a cache except its locks, and the folders of unfinished entries.
func content(t testing.TB, root string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		if !d.IsDir() && !strings.HasPrefix(rel, "locks/") || strings.HasPrefix(d.Name(), ".") && rel != "." {
			found = append(found, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// layerFile returns the path of a layer's blob in a layout.
func layerFile(t testing.TB, dir string, im v1.Image, i int) string {
	t.Helper()
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[i].Digest()
	if err != nil {
		t.Fatal(err)
	}
	return blobFile(dir, digest)
}

func blobFile(dir string, h v1.Hash) string { return filepath.Join(dir, "blobs", h.Algorithm, h.Hex) }

func must[V any](t testing.TB) func(V, error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// changed rewrites a file.
func changed(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b := must[[]byte](t)(os.ReadFile(path))
	if err := os.WriteFile(path, change(bytes.Clone(b)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func flipped(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

func halved(b []byte) []byte { return b[:len(b)/2] }

func TestDamagedLayouts(t *testing.T) {
	im := richImage(t)
	config := must[v1.Hash](t)(im.ConfigName())
	manifest := must[v1.Hash](t)(im.Digest())
	for what, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		want   string
	}{
		"a layer's bit flipped": {func(t *testing.T, dir string) { changed(t, layerFile(t, dir, im, 2), flipped) }, "layer 3 of 3: sha256:"},
		"zstd's bit flipped":    {func(t *testing.T, dir string) { changed(t, layerFile(t, dir, im, 1), flipped) }, "layer 2 of 3: "},
		"a layer truncated":     {func(t *testing.T, dir string) { changed(t, layerFile(t, dir, im, 2), halved) }, "is truncated"},
		"a layer prolonged": {func(t *testing.T, dir string) {
			changed(t, layerFile(t, dir, im, 0), func(b []byte) []byte { return append(b, make([]byte, 4096)...) })
		}, "is longer than its"},
		"a layer missing": {func(t *testing.T, dir string) { os.Remove(layerFile(t, dir, im, 1)) }, "part of the image is missing"},
		"a layer linked to outside": {func(t *testing.T, dir string) {
			path := layerFile(t, dir, im, 0)
			outside := written(t, "outside", must[[]byte](t)(os.ReadFile(path)))
			os.Remove(path)
			os.Symlink(outside, path)
		}, "escapes"},
		"the blobs linked to outside": {func(t *testing.T, dir string) {
			outside := t.TempDir() + "/blobs"
			if err := errors.Join(os.Rename(dir+"/blobs", outside), os.Symlink(outside, dir+"/blobs")); err != nil {
				t.Fatal(err)
			}
		}, "escapes"},
		"a layer is a pipe": {func(t *testing.T, dir string) {
			path := layerFile(t, dir, im, 0)
			os.Remove(path)
			if err := unix.Mkfifo(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		"the configuration's bit flipped": {func(t *testing.T, dir string) { changed(t, blobFile(dir, config), flipped) }, "configuration: sha256:"},
		"the manifest's bit flipped":      {func(t *testing.T, dir string) { changed(t, blobFile(dir, manifest), flipped) }, "manifest: sha256:"},
		"no JSON":                         {func(t *testing.T, dir string) { changed(t, dir+"/index.json", halved) }, "index.json: "},
		"endless index": {func(t *testing.T, dir string) {
			changed(t, dir+"/index.json", func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), maxManifest)...) })
		}, "index.json is too long"},
	} {
		t.Run(what, func(t *testing.T) {
			dir := layoutOf(t, named{what: im})
			c.damage(t, dir)
			if err := refused(t, dir, Options{}, c.want); !errors.As(err, &InvalidError{}) {
				t.Errorf("%q is not an InvalidError", err)
			}
		})
	}
}

func TestDamagedArchives(t *testing.T) {
	im := richImage(t)
	old := oldSaved(t, im)
	layout := packed(t, layoutOf(t, named{what: im}))
	flip := func(what string) func([]byte) []byte {
		return func(b []byte) []byte {
			i := bytes.Index(b, []byte(what))
			if i < 0 {
				t.Fatalf("%q not found in the archive", what)
			}
			b[i+len(what)-1] ^= 1
			return b
		}
	}
	lacking := func(name string) func([]byte) []byte {
		return func(b []byte) []byte { return without(t, b, name) }
	}
	for what, c := range map[string]struct {
		of     string
		change func([]byte) []byte
		want   string
	}{
		"old: a layer's content": {old, flip("#!app two"), "layer 3 of 3: sha256:"},
		"old: the configuration": {old, flip("GREETING=hello"), "configuration: "},
		"old: a layer missing":   {old, lacking("real" + strings.Repeat("0", 64)), "part of the image is missing"},
		"old: truncated":         {old, halved, "not a complete tar archive"},
		"old: no manifest":       {old, lacking("manifest.json"), "not an OCI layout"},
		"layout: truncated":      {layout, halved, "not a complete tar archive"},
		"layout: configuration":  {layout, flip("GREETING=hello"), "configuration: sha256:"},
		"gzip: truncated":        {gzipped(t, old), halved, "unexpected EOF"},
		"gzip: checksum":         {gzipped(t, old), func(b []byte) []byte { b[len(b)-6] ^= 1; return b }, "checksum"},
		"no archive":             {old, func([]byte) []byte { return []byte("hello") }, "not a complete tar archive"},
		"an empty file":          {old, func([]byte) []byte { return nil }, "not an OCI layout"},
		"a tar with neither":     {old, func([]byte) []byte { return tarOf(t, regular("a", "b", 0o644)) }, "not an OCI layout"},
		"a circle of links": {old, func([]byte) []byte {
			return tarOf(t, symlink("manifest.json", "index.json"), symlink("index.json", "manifest.json"))
		}, "not an OCI layout"},
		"a link that climbs out":         {old, func([]byte) []byte { return tarOf(t, symlink("manifest.json", "../../etc/passwd")) }, "not an OCI layout"},
		"manifest.json without an image": {old, func([]byte) []byte { return tarOf(t, regular("manifest.json", "[]", 0o644)) }, "contains no image"},
	} {
		t.Run(what, func(t *testing.T) {
			path := written(t, "archive", c.change(must[[]byte](t)(os.ReadFile(c.of))))
			if err := refused(t, path, Options{}, c.want); !errors.As(err, &InvalidError{}) {
				t.Errorf("%q is not an InvalidError", err)
			}
		})
	}
}

// A hostile archive may have 65536 names of 1 MiB each.
func TestArchiveIgnoresLongNames(t *testing.T) {
	path := written(t, "archive", tarOf(t, regular(strings.Repeat("d/", 2000)+"long", "", 0o644), symlink("link", strings.Repeat("d/", 2000)), regular("short", "", 0o644)))
	f := must[*os.File](t)(os.Open(path))
	defer f.Close()
	if entries := must[map[string]entry](t)(list(t.Context(), f)); len(entries) != 1 || entries["short"] == (entry{}) {
		t.Errorf("%d names were kept", len(entries))
	}
}

// without returns a copy of a tar without one file.
func without(t testing.TB, b []byte, name string) []byte {
	t.Helper()
	var files []file
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return tarOf(t, files...)
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != name {
			files = append(files, file{*h, string(must[[]byte](t)(io.ReadAll(r)))})
		}
	}
}

func TestLayerMustMatchItsDiffID(t *testing.T) {
	im := richImage(t)
	wrong := must[*v1.ConfigFile](t)(im.ConfigFile()).DeepCopy()
	wrong.RootFS.DiffIDs[1] = wrong.RootFS.DiffIDs[0]
	err := refused(t, layoutOf(t, named{what: must[v1.Image](t)(mutate.ConfigFile(im, wrong))}), Options{}, "layer 2 of 3: sha256:")
	if !errors.As(err, &InvalidError{}) {
		t.Errorf("%q is not an InvalidError", err)
	}
	wrong.RootFS.DiffIDs = wrong.RootFS.DiffIDs[:1]
	refused(t, layoutOf(t, named{what: must[v1.Image](t)(mutate.ConfigFile(im, wrong))}), Options{}, "1 diff_ids for 3 layers")
}

func TestHostileLayers(t *testing.T) {
	zeros := strings.Repeat("\x00", 3<<20)
	for what, c := range map[string]struct {
		layer  []byte
		limits filetree.Limits
		want   string
	}{
		"a bomb":              {tarOf(t, regular("zeros", zeros, 0o644)), filetree.Limits{SizeBytes: 1 << 20}, "too large"},
		"many files":          {tarOf(t, regular("a", "", 0), regular("b", "", 0), regular("c", "", 0)), filetree.Limits{Files: 3}, "too large"},
		"climbing out":        {tarOf(t, regular("../../escaped", "", 0o644)), filetree.Limits{}, "escaped"},
		"through a loop":      {tarOf(t, symlink("out", "out"), regular("out/escaped", "", 0o644)), filetree.Limits{}, "out/escaped"},
		"a link to elsewhere": {tarOf(t, link("passwd", "../../../../etc/passwd")), filetree.Limits{}, "passwd"},
		"no tar":              {[]byte(strings.Repeat("this is no tar. ", 100)), filetree.Limits{}, "layer 1 of 1: "},
		"half a tar":          {tarOf(t, regular("a", zeros, 0o644))[:1<<20], filetree.Limits{}, "unexpected EOF"},
	} {
		for _, how := range []compression.Compression{compression.GZip, compression.ZStd} {
			t.Run(what+" "+string(how), func(t *testing.T) {
				dir := layoutOf(t, named{what: imageOf(t, "", v1.Config{}, layerOf(t, c.layer, how))})
				if err := refused(t, dir, Options{Limits: c.limits}, c.want); !errors.As(err, &InvalidError{}) {
					t.Errorf("%q is not an InvalidError", err)
				}
			})
		}
	}
	packedBomb := gzipped(t, savedOf(t, map[string]v1.Image{"x.test/y:z": imageOf(t, "", v1.Config{}, layerOf(t, tarOf(t, regular("x", string(noise(2<<20)), 0)), compression.GZip))}))
	refused(t, packedBomb, Options{Limits: filetree.Limits{Files: 1, SizeBytes: 1 << 18}}, "exceeds the size limit")
}

func TestLayerWithoutAnEndMarker(t *testing.T) {
	whole := tarOf(t, regular("file", "content", 0o644))
	for what, layer := range map[string][]byte{"no mark": whole[:1024], "half a mark": whole[:1536], "no byte at all": nil} {
		_, tree, err := treeOf(t, layoutOf(t, named{what: imageOf(t, "", v1.Config{}, layerOf(t, layer, compression.GZip))}))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if _, ok := tree.Get("file"); ok != (len(layer) > 0) {
			t.Errorf("%s: the file exists: %v", what, ok)
		}
	}
}
