package oci

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"minivmm/guestimages/filetree"
)

// FuzzArchive opens and unpacks arbitrary bytes as an image archive. It must not panic, must
// respect the limits, and must write only to the given folders.
func FuzzArchive(f *testing.F) {
	im := imageOf(f, "", v1.Config{Cmd: []string{"x"}, WorkingDir: "/w"}, layerOf(f, tarOf(f, regular("file", "content", 0o644), symlink("l", "file")), ""))
	for _, path := range []string{oldSaved(f, im), packed(f, layoutOf(f, named{name: "v1", what: im})), savedOf(f, map[string]v1.Image{"x.test/y:z": im})} {
		f.Add(must[[]byte](f)(os.ReadFile(path)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		root := t.TempDir()
		path := filepath.Join(root, "archive")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		limits := filetree.Limits{Files: 100, SizeBytes: 1 << 20}
		im, err := openImage(t.Context(), path, filepath.Join(root, "scratch"), limits)
		if err != nil {
			return
		}
		defer im.Close()
		contents := t.TempDir()
		tree, err := filetree.New(contents, limits)
		if err != nil {
			t.Fatal(err)
		}
		if im.Unpack(t.Context(), tree, func(string, ...any) {}) == nil {
			if err := im.finish(tree); err == nil && len(im.Command().Env) == 0 {
				t.Error("the command has no PATH")
			}
		}
		left := must[[]os.DirEntry](t)(os.ReadDir(root))
		if len(left) > 2 || bytes.Contains([]byte(im.ID), []byte("/")) {
			t.Errorf("leftovers: %v, the ID is %q", left, im.ID)
		}
	})
}
