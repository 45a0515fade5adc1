package filetree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newTree(t testing.TB, limits Limits) *Tree {
	t.Helper()
	tree, err := New(t.TempDir(), limits)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// show returns one line for each node except the root: path, type and permissions, owner, and the
// data of its type.
func show(t testing.TB, tree *Tree) []string {
	t.Helper()
	var lines []string
	for n := range tree.All() {
		if n.Path == "" {
			continue
		}
		line := fmt.Sprintf("%s %o %d:%d", n.Path, n.Mode, n.UID, n.GID)
		switch {
		case n.Link != "":
			line += " = " + n.Link
		case n.Mode&unix.S_IFMT == unix.S_IFREG:
			b, err := n.Content()
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(b)) != n.SizeBytes {
				t.Errorf("%s: SizeBytes is %d, the content has %d", n.Path, n.SizeBytes, len(b))
			}
			line += fmt.Sprintf(" %q", b)
		case n.Mode&unix.S_IFMT == unix.S_IFLNK:
			line += " -> " + n.Target
		case n.Major != 0 || n.Minor != 0:
			line += fmt.Sprintf(" %d,%d", n.Major, n.Minor)
		}
		for _, name := range slices.Sorted(maps.Keys(n.Xattrs)) {
			line += fmt.Sprintf(" %s=%q", name, n.Xattrs[name])
		}
		lines = append(lines, line)
	}
	return lines
}

func wantTree(t testing.TB, tree *Tree, want ...string) {
	t.Helper()
	if got := show(t, tree); !slices.Equal(got, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	checkInvariants(t, tree)
}

// checkInvariants checks what must hold for every tree.
func checkInvariants(t testing.TB, tree *Tree) {
	t.Helper()
	seen := map[string]*Node{}
	last := ""
	for n := range tree.All() {
		if cleaned, err := clean(n.Path); err != nil || cleaned != n.Path {
			t.Errorf("%q is not a clean path", n.Path)
		}
		if len(seen) > 0 {
			if n.Path <= last {
				t.Errorf("%q comes after %q", n.Path, last)
			}
			dir, _ := split(n.Path)
			if parent := seen[dir]; parent == nil || !parent.IsDir() {
				t.Errorf("%q has no folder before it", n.Path)
			}
		}
		if n.Link != "" {
			if to := seen[n.Link]; to == nil || to.Link != "" || to.file != n.file {
				t.Errorf("%q is a hard link to %q, which is not an earlier name with content", n.Path, n.Link)
			}
		}
		if isFile := n.Mode&unix.S_IFMT == unix.S_IFREG; isFile != (n.file != "") {
			t.Errorf("%q: mode %o and file %q", n.Path, n.Mode, n.file)
		}
		if got, ok := tree.Get(n.Path); !ok || got.Link != n.Link || got.Mode != n.Mode {
			t.Errorf("Get(%q) differs from All", n.Path)
		}
		seen[n.Path], last = n, n.Path
	}
	if tree.files != len(seen) {
		t.Errorf("the tree counts %d nodes, but has %d", tree.files, len(seen))
	}
}

// tarOf returns a tar with these headers. The content of a regular file is in
// PAXRecords["content"].
func tarOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.PAXRecords["content"]
		h.PAXRecords = maps.Clone(h.PAXRecords)
		delete(h.PAXRecords, "content")
		h.Size = int64(len(content))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, PAXRecords: map[string]string{"content": content}}
}

func folder(name string) tar.Header {
	return tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o750, Uid: 3, Gid: 4}
}

func symlink(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}
}

func link(name, target string) tar.Header {
	return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}
}

func addTar(tree *Tree, b []byte) error { return tree.AddTar(context.Background(), bytes.NewReader(b)) }

func addLayer(tree *Tree, b []byte) error {
	return tree.AddLayer(context.Background(), bytes.NewReader(b))
}

func TestPutGetRemove(t *testing.T) {
	tree := newTree(t, Limits{})
	put := func(n Node, content string) {
		t.Helper()
		var r io.Reader
		if n.Mode&unix.S_IFMT == unix.S_IFREG && n.Link == "" {
			r = strings.NewReader(content)
		}
		if err := tree.Put(n, r); err != nil {
			t.Fatal(err)
		}
	}
	put(Node{Path: "/usr/bin/a", Mode: unix.S_IFREG | 0o755, UID: 7}, "one")
	put(Node{Path: "usr/bin/b", Link: "usr/bin/a"}, "")
	put(Node{Path: "usr/bin/0", Link: "usr/bin/b"}, "")
	put(Node{Path: "dev/null", Mode: unix.S_IFCHR | 0o666, Major: 1, Minor: 3, Target: "not of a device"}, "")
	put(Node{Path: "usr", Mode: unix.S_IFDIR | 0o700}, "")
	wantTree(t, tree,
		"dev 40755 0:0", "dev/null 20666 0:0 1,3",
		"usr 40700 0:0", "usr/bin 40755 0:0", `usr/bin/0 100755 7:0 "one"`, "usr/bin/a 100755 7:0 = usr/bin/0", "usr/bin/b 100755 7:0 = usr/bin/0")
	tree.Remove("usr/bin/0")
	tree.Remove("usr/no/such")
	tree.Remove("../usr")
	wantTree(t, tree,
		"dev 40755 0:0", "dev/null 20666 0:0 1,3",
		"usr 40700 0:0", "usr/bin 40755 0:0", `usr/bin/a 100755 7:0 "one"`, "usr/bin/b 100755 7:0 = usr/bin/a")
	put(Node{Path: "usr", Mode: unix.S_IFREG | 0o600}, "a file over a folder")
	wantTree(t, tree, "dev 40755 0:0", "dev/null 20666 0:0 1,3", `usr 100600 0:0 "a file over a folder"`)
	put(Node{Path: "usr", Mode: unix.S_IFDIR | 0o755}, "")
	wantTree(t, tree, "dev 40755 0:0", "dev/null 20666 0:0 1,3", "usr 40755 0:0")
	tree.Remove("/")
	wantTree(t, tree)
	if n, ok := tree.Get("/"); !ok || n.Mode != unix.S_IFDIR|0o755 {
		t.Errorf("the root is %+v", n)
	}
	if _, ok := tree.Get("usr"); ok {
		t.Error("usr is still there")
	}
}

func TestPutRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		n       Node
		content io.Reader
	}{
		"a path with ..":         {Node{Path: "a/../b", Mode: unix.S_IFDIR}, nil},
		"a long name":            {Node{Path: strings.Repeat("x", 256), Mode: unix.S_IFDIR}, nil},
		"a long path":            {Node{Path: strings.Repeat("x/", 2100) + "x", Mode: unix.S_IFDIR}, nil},
		"a NUL":                  {Node{Path: "a\x00b", Mode: unix.S_IFDIR}, nil},
		"no type":                {Node{Path: "a", Mode: 0o644}, nil},
		"unknown mode bits":      {Node{Path: "a", Mode: 1 << 20}, nil},
		"content of a folder":    {Node{Path: "a", Mode: unix.S_IFDIR}, strings.NewReader("")},
		"a link without target":  {Node{Path: "a", Mode: unix.S_IFLNK}, nil},
		"a link target with NUL": {Node{Path: "a", Mode: unix.S_IFLNK, Target: "x\x00"}, nil},
		"a large device number":  {Node{Path: "a", Mode: unix.S_IFCHR, Minor: 1 << 20}, nil},
		"below a symbolic link":  {Node{Path: "link/a", Mode: unix.S_IFDIR}, nil},
		"below a file":           {Node{Path: "file/a/b", Mode: unix.S_IFDIR}, nil},
		"a root of another type": {Node{Path: "/", Mode: unix.S_IFREG}, nil},
		"a hard link to nothing": {Node{Path: "a", Link: "b"}, nil},
		"a hard link to a dir":   {Node{Path: "a", Link: "dir"}, nil},
		"a hard link to ..":      {Node{Path: "a", Link: "../file"}, nil},
		"a long xattr name":      {Node{Path: "a", Mode: unix.S_IFDIR, Xattrs: map[string][]byte{strings.Repeat("x", 256): nil}}, nil},
		"a long xattr value":     {Node{Path: "a", Mode: unix.S_IFDIR, Xattrs: map[string][]byte{"user.x": make([]byte, 65537)}}, nil},
	} {
		tree := newTree(t, Limits{})
		for _, n := range []Node{{Path: "link", Mode: unix.S_IFLNK, Target: "/etc"}, {Path: "file", Mode: unix.S_IFREG}, {Path: "dir", Mode: unix.S_IFDIR}} {
			if err := tree.Put(n, nil); err != nil {
				t.Fatal(err)
			}
		}
		err := tree.Put(tt.n, tt.content)
		if err == nil {
			t.Errorf("%s was accepted", name)
			continue
		}
		if !strings.Contains(err.Error(), short(tt.n.Path)) && !strings.Contains(err.Error(), strings.Trim(short(tt.n.Path), `"`)) {
			t.Errorf("%s: the error does not name the entry: %v", name, err)
		}
	}
}

func TestContentIsSparse(t *testing.T) {
	tree := newTree(t, Limits{})
	want := make([]byte, 1<<20+5)
	copy(want[300000:], "in the middle")
	if err := tree.Put(Node{Path: "disk", Mode: unix.S_IFREG}, bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	n, _ := tree.Get("disk")
	got, err := n.Content()
	if err != nil || !bytes.Equal(got, want) || n.SizeBytes != int64(len(want)) {
		t.Fatalf("got %d bytes (SizeBytes %d), %v: not the content that was put", len(got), n.SizeBytes, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(n.file, &st); err != nil {
		t.Fatal(err)
	}
	if st.Blocks*512 >= 1<<19 {
		t.Errorf("one block of content uses %d bytes on the host", st.Blocks*512)
	}
}

func TestNewWantsAnEmptyFolder(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(filepath.Join(dir, "none"), Limits{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "0"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir, Limits{}); err == nil {
		t.Error("a folder with a file was accepted")
	}
}

func TestModTimeIsKept(t *testing.T) {
	tree := newTree(t, Limits{})
	at := time.Unix(1700000000, 0)
	h := file("a", "")
	h.ModTime = at
	if err := addTar(tree, tarOf(t, h)); err != nil {
		t.Fatal(err)
	}
	if n, _ := tree.Get("a"); !n.ModTime.Equal(at) {
		t.Errorf("got %v, want %v", n.ModTime, at)
	}
}
