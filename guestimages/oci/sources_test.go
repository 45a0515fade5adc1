package oci

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"minivmm/guestimages/filetree"
)

// layoutOf writes a layout with the images under their names, in order; "" means no name.
func layoutOf(t testing.TB, images ...named) string {
	t.Helper()
	dir := t.TempDir() + "/layout"
	p, err := ocilayout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range images {
		var options []ocilayout.Option
		if n.name != "" {
			options = append(options, ocilayout.WithAnnotations(map[string]string{refName: n.name}))
		}
		if n.platform != nil {
			options = append(options, ocilayout.WithPlatform(*n.platform))
		}
		switch what := n.what.(type) {
		case v1.Image:
			err = p.AppendImage(what, options...)
		case v1.ImageIndex:
			err = p.AppendIndex(what, options...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// named is an image or an index with its name and platform in a layout.
type named struct {
	name     string
	what     any
	platform *v1.Platform
}

// savedOf writes an archive as docker save does.
func savedOf(t testing.TB, images map[string]v1.Image) string {
	t.Helper()
	refs := map[name.Reference]v1.Image{}
	for tag, im := range images {
		refs[parsed(t, tag)] = im
	}
	file := t.TempDir() + "/saved.tar"
	if err := tarball.MultiRefWriteToFile(file, refs); err != nil {
		t.Fatal(err)
	}
	return file
}

// packed writes a tar of a folder and returns its path.
func packed(t testing.TB, dir string) string {
	t.Helper()
	var files []file
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files = append(files, regular("./"+rel, string(b), 0o644))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return written(t, "layout.tar", tarOf(t, files...))
}

func written(t testing.TB, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return written(t, "packed.tar.gz", out.Bytes())
}

// server starts a registry on loopback. Unless it is nil, wrap wraps the registry's handler.
func server(t testing.TB, wrap func(http.Handler) http.Handler) (host string) {
	t.Helper()
	handler := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func push(t testing.TB, ref string, what any, options ...remote.Option) {
	t.Helper()
	to := parsed(t, ref)
	var err error
	switch what := what.(type) {
	case v1.Image:
		err = remote.Write(to, what, options...)
	case v1.ImageIndex:
		err = remote.WriteIndex(to, what, options...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func parsed(t testing.TB, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// noCredentials hides the credentials of the user who runs the tests.
func noCredentials(t testing.TB) {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{"DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "REGISTRY_AUTH_FILE"} {
		t.Setenv(name, "")
	}
}

// treeOf opens and unpacks an image.
func treeOf(t testing.TB, image string) (*Image, *filetree.Tree, error) {
	t.Helper()
	scratch := t.TempDir()
	im, err := openImage(t.Context(), image, scratch, filetree.Limits{})
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { im.Close() })
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := im.Unpack(t.Context(), tree, func(string, ...any) {}); err != nil {
		return nil, nil, err
	}
	return im, tree, im.finish(tree)
}

// listing describes a tree, one line for each node. It includes content that is short and not added
// by this package.
func listing(t testing.TB, tree *filetree.Tree) []string {
	t.Helper()
	var lines []string
	for n := range tree.All() {
		line := fmt.Sprintf("%s %o %d:%d", n.Path, n.Mode, n.UID, n.GID)
		if n.Path == "" {
			line = "/" + line
		}
		if n.Target != "" {
			line += " -> " + n.Target
		}
		if n.Major != 0 {
			line += fmt.Sprintf(" %d:%d", n.Major, n.Minor)
		}
		if n.Mode&0o170000 == 0o100000 && n.SizeBytes < 1000 && !strings.HasPrefix(n.Path, ".minivmm/") {
			b, err := n.Content()
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" %q", b)
		}
		for name, value := range n.Xattrs {
			line += fmt.Sprintf(" %s=%x", name, value)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestImageIsTheSameFromEverySource(t *testing.T) {
	noCredentials(t)
	im := richImage(t)
	id, err := im.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := im.Digest()
	if err != nil {
		t.Fatal(err)
	}
	folder := layoutOf(t, named{name: "v1", what: im})
	archive := packed(t, folder)
	saved := savedOf(t, map[string]v1.Image{"example.test/app:v1": im})
	host := server(t, nil)
	push(t, host+"/some/app:v1", im)
	for what, image := range map[string]string{
		"folder":             folder,
		"folder by prefix":   "oci:" + folder,
		"folder and tag":     "oci:" + folder + ":v1",
		"layout tar":         archive,
		"layout tar.gz":      gzipped(t, archive),
		"saved":              saved,
		"saved and tag":      "oci:" + saved + ":v1",
		"saved and name":     "oci:" + saved + ":example.test/app:v1",
		"saved, gzip":        gzipped(t, saved),
		"registry's tag":     host + "/some/app:v1",
		"registry's digest":  host + "/some/app@" + digest.String(),
		"saved, old":         oldSaved(t, im),
		"registry's, docker": host + "/some/app:v1@" + digest.String(),
	} {
		t.Run(what, func(t *testing.T) {
			got, tree, err := treeOf(t, image)
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != id.String() {
				t.Errorf("got ID %s, want %s", got.ID, id)
			}
			if lines := listing(t, tree); !slices.Equal(lines, wantRich) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(wantRich, "\n"))
			}
			n, ok := tree.Get("big")
			if !ok {
				t.Fatal("big is missing")
			}
			if b, err := n.Content(); err != nil || !bytes.Equal(b, noise(300_000)) {
				t.Errorf("big has wrong content, %v", err)
			}
		})
	}
}

// oldSaved writes an archive like docker save before version 25: each layer uncompressed in its own
// folder, as a link.
func oldSaved(t testing.TB, im v1.Image) string {
	t.Helper()
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	config, err := im.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	id, err := im.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	described := tarball.Descriptor{Config: id.Hex + ".json", RepoTags: []string{"app:v1"}}
	var files []file
	for i, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		dirName := fmt.Sprintf("%064d", i)
		described.Layers = append(described.Layers, dirName+"/layer.tar")
		files = append(files, regular("real"+dirName, string(b), 0o644), dir(dirName, 0o755))
		if i == 0 {
			files = append(files, link(dirName+"/layer.tar", "real"+dirName))
		} else {
			files = append(files, symlink(dirName+"/layer.tar", "../real"+dirName))
		}
	}
	manifest, err := json.Marshal(tarball.Manifest{described})
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, regular(id.Hex+".json", string(config), 0o644), regular("manifest.json", string(manifest), 0o644))
	return written(t, "old.tar", tarOf(t, files...))
}

// login writes credentials for a registry to a docker config file and sets DOCKER_CONFIG to it.
func login(t testing.TB, host, user, password string) {
	t.Helper()
	auth := authn.AuthConfig{Username: user, Password: password}
	b, err := json.Marshal(map[string]any{"auths": map[string]authn.AuthConfig{host: auth}})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", filepath.Dir(written(t, "config.json", b)))
}

// openImage opens an image by its name, without a cache.
func openImage(ctx context.Context, name, scratch string, limits filetree.Limits) (*Image, error) {
	ref, err := parse(name)
	if err != nil {
		return nil, err
	}
	return ref.open(ctx, scratch, limits)
}

// Existing files do not change the meaning of a name.
func TestParseDistinguishesPathsAndNames(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"alpine", "a:b"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for s, want := range map[string]reference{
		"./alpine": {path: "./alpine"}, "oci:alpine": {path: "alpine"}, "oci:alpine:3": {path: "alpine", tag: "3"}, "oci:./a:b": {path: "./a:b"}, "./a:b:c": {path: "./a:b", tag: "c"},
		"alpine": {remote: parsed(t, "alpine")}, "alpine:3": {remote: parsed(t, "alpine:3")}, "a:b": {remote: parsed(t, "a:b")},
	} {
		got, err := parse(s)
		if err != nil || got.path != want.path || got.tag != want.tag || fmt.Sprint(got.remote) != fmt.Sprint(want.remote) {
			t.Errorf("%s: got %+v, %v, want %+v", s, got, err, want)
		}
	}
}
