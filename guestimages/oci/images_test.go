package oci

import (
	"archive/tar"
	"bytes"
	"cmp"
	"io"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// when is the time of all files in test images.
var when = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// file is an entry of a test layer: a header and its content.
type file struct {
	tar.Header
	content string
}

func dir(name string, mode int64) file {
	return file{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}}
}

func regular(name, content string, mode int64) file {
	return file{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode}, content: content}
}

func link(name, target string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}}
}

func symlink(name, target string) file {
	return file{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func node(name string, typ byte, major, minor int64) file {
	return file{Header: tar.Header{Typeflag: typ, Name: name, Mode: 0o620, Devmajor: major, Devminor: minor}}
}

func (f file) owner(uid, gid int) file {
	f.Uid, f.Gid = uid, gid
	return f
}

func (f file) xattr(name, value string) file {
	f.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
	return f
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := f.Header
		h.Size, h.ModTime, h.Format = int64(len(f.content)), when, tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layerOf returns a layer with the tar content, compressed with how.
func layerOf(t testing.TB, content []byte, how compression.Compression) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithCompression(how), tarball.WithCompressedCaching)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// imageOf returns an image for an architecture; "" means amd64.
func imageOf(t testing.TB, architecture string, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	im, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := im.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config, file.Created = "linux", cmp.Or(architecture, "amd64"), config, v1.Time{Time: when}
	im, err = mutate.ConfigFile(im, file)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// richConfig and richImage use every feature of images.
var richConfig = v1.Config{
	Entrypoint: []string{"/bin/app", "--flag"},
	Cmd:        []string{"one", "two words"},
	Env:        []string{"GREETING=hello world", "broken", "=worse", "EMPTY="},
	User:       "web:www",
	WorkingDir: "/srv/work",
	Volumes:    map[string]struct{}{"/data/of": {}, "/linked/x": {}},
}

func richImage(t testing.TB) v1.Image {
	t.Helper()
	return imageOf(t, "", richConfig,
		layerOf(t, tarOf(t,
			dir("bin", 0o755),
			regular("bin/app", "#!app one", 0o755),
			link("bin/app2", "bin/app"),
			symlink("linked", "bin"),
			dir("etc/", 0o755),
			regular("etc/passwd", "web:x:33:33::/var/www:/bin/sh\n", 0o644),
			regular("etc/gone", "gone", 0o644),
			dir("emptied", 0o700).owner(5, 6),
			regular("emptied/old", "old", 0o600),
			dir("emptied/deep", 0o700),
			regular("emptied/deep/old", "old", 0o600),
			dir("removed", 0o755),
			regular("removed/below", "below", 0o644),
			regular("becomes-folder", "file", 0o644),
			dir("kept", 0o1777),
			regular("kept/file", "kept", 0o4755).owner(1000, 100),
			regular(".minivmm/image.json", `{"argv":["evil"]}`, 0o666),
		), compression.GZip),
		layerOf(t, tarOf(t,
			regular("etc/.wh.gone", "", 0o644),
			dir("emptied", 0o750).owner(7, 8),
			regular("emptied/new", "new", 0o640),
			regular("emptied/.wh..wh..opq", "", 0o644),
			regular(".wh.removed", "", 0o644),
			dir("becomes-folder", 0o711),
			regular("becomes-folder/in", "in", 0o644),
			regular("sbin/ping", "ping", 0o755).xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
			node("tty", tar.TypeChar, 4, 64).owner(0, 5),
			node("sda", tar.TypeBlock, 8, 1).owner(0, 6),
			node("pipe", tar.TypeFifo, 0, 0),
		), compression.ZStd),
		layerOf(t, tarOf(t, regular("bin/app", "#!app two", 0o755), regular("big", string(noise(300_000)), 0o644)), compression.GZip),
	)
}

// noise returns n bytes that do not compress, the same each time.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

// wantRich is the file tree of richImage on a disk, without the contents of big and of the files in
// .minivmm.
var wantRich = []string{
	"/ 40755 0:0",
	".minivmm 40755 0:0",
	".minivmm/image.json 100644 0:0",
	"becomes-folder 40711 0:0",
	`becomes-folder/in 100644 0:0 "in"`,
	"big 100644 0:0",
	"bin 40755 0:0",
	`bin/app 100755 0:0 "#!app two"`,
	`bin/app2 100755 0:0 "#!app one"`,
	"bin/x 40755 0:0",
	"data 40755 0:0",
	"data/of 40755 0:0",
	"dev 40755 0:0",
	"emptied 40750 7:8",
	`emptied/new 100640 0:0 "new"`,
	"etc 40755 0:0",
	`etc/passwd 100644 0:0 "web:x:33:33::/var/www:/bin/sh\n"`,
	"kept 41777 0:0",
	`kept/file 104755 1000:100 "kept"`,
	"linked 120777 0:0 -> bin",
	"pipe 10620 0:0",
	"proc 40755 0:0",
	"sbin 40755 0:0",
	`sbin/ping 100755 0:0 "ping" security.capability=0100000200200000000000000000000000000000`,
	"sda 60620 0:6 8:1",
	"srv 40755 0:0",
	"srv/work 40755 0:0",
	"sys 40755 0:0",
	"tty 20620 0:5 4:64",
}
