package initrd

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"

	"minivmm/guestimages/filetree"
)

func newTree(t *testing.T) *filetree.Tree {
	t.Helper()
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func write(t *testing.T, tree *filetree.Tree) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, tree); err != nil {
		t.Fatal(err)
	}
	if b.Len()%4 != 0 {
		t.Errorf("the archive has %d bytes, not a multiple of 4: another archive cannot follow it", b.Len())
	}
	return b.Bytes()
}

// addList adds a list to the tree.
func addList(t *testing.T, tree *filetree.Tree, list string) *filetree.Tree {
	t.Helper()
	if err := tree.AddList(t.Context(), strings.NewReader(list), ""); err != nil {
		t.Fatal(err)
	}
	return tree
}

const everything = `dir /d 1755 1 2
file /d/f SOURCE 4711 3 4 /a /z
slink /l d/f 0777 5 6
nod /n 0600 7 8 c 5 1
nod /m 0660 0 6 b 8 16
pipe /p 0622 9 10
sock /s 0755 11 12
file /empty EMPTY 0644 0 0
`

func everyTree(t *testing.T) *filetree.Tree {
	t.Helper()
	dir := t.TempDir()
	source, empty := filepath.Join(dir, "source"), filepath.Join(dir, "empty")
	if err := errors.Join(os.WriteFile(source, []byte("content"), 0o644), os.WriteFile(empty, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	return addList(t, newTree(t), strings.NewReplacer("SOURCE", source, "EMPTY", empty).Replace(everything))
}

// readAll lists what another author's reader finds: name, mode, owner, inode, links, content.
func readAll(t *testing.T, b []byte) []string {
	t.Helper()
	var all []string
	r := cpio.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Linkname != "" {
			data = []byte("-> " + h.Linkname)
		}
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s has the time %v", h.Name, h.ModTime)
		}
		all = append(all, fmt.Sprintf("%s %o %d:%d inode %d x%d %q", h.Name, uint32(h.Mode), h.Uid, h.Guid, h.Inode, h.Links, data))
	}
}

func TestTreeInAnArchive(t *testing.T) {
	want := []string{
		`a 104711 3:4 inode 1 x3 ""`,
		`d 41755 1:2 inode 2 x2 ""`,
		`d/f 104711 3:4 inode 1 x3 ""`,
		`empty 100644 0:0 inode 4 x1 ""`,
		`l 120777 5:6 inode 5 x1 "-> d/f"`,
		`m 60660 0:6 inode 6 x1 ""`,
		`n 20600 7:8 inode 7 x1 ""`,
		`p 10622 9:10 inode 8 x1 ""`,
		`s 140755 11:12 inode 9 x1 ""`,
		`z 104711 3:4 inode 1 x3 "content"`,
	}
	if got := readAll(t, write(t, everyTree(t))); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// cpio(1) creates real files and, as root, real owners and device nodes.
func TestCPIOUnpacksIt(t *testing.T) {
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Logf("cpio(1) is not installed")
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(program, "-idm", "--quiet", "--no-absolute-filenames")
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(write(t, everyTree(t)))
	out, err := cmd.CombinedOutput()
	if os.Getuid() == 0 && err != nil {
		t.Fatalf("%v: %s", err, out) // without root only the device nodes fail
	}
	back := newTree(t)
	if err := back.AddDir(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	for n := range everyTree(t).All() {
		if n.Path == "" {
			continue
		}
		got, ok := back.Get(n.Path)
		if !ok && os.Getuid() != 0 && n.Major != 0 {
			continue
		}
		if !ok {
			t.Errorf("%s was not unpacked", n.Path)
			continue
		}
		if os.Getuid() != 0 {
			got.UID, got.GID, got.Mode, n.Mode = n.UID, n.GID, got.Mode&^0o7000, n.Mode&^0o7000
		}
		if got.Mode != n.Mode || got.UID != n.UID || got.GID != n.GID || got.Major != n.Major || got.Minor != n.Minor || got.Target != n.Target || got.Link != n.Link || got.SizeBytes != n.SizeBytes {
			t.Errorf("got %+v, want %+v", got, n)
		}
	}
}

func TestSameFolderGivesSameBytes(t *testing.T) {
	names := []string{"a", "b/c", "b/d", "e/f/g", "h"}
	build := func(names []string, at time.Time) []byte {
		dir := t.TempDir()
		for _, name := range names {
			p := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte("content of "+name), 0o644), os.Chtimes(p, at, at)); err != nil {
				t.Fatal(err)
			}
		}
		links := []string{"a", "k"}
		if names[0] != "a" {
			links = []string{"k", "a"}
			if err := os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "k")); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Link(filepath.Join(dir, links[0]), filepath.Join(dir, links[1])); err != nil {
			t.Fatal(err)
		}
		tree := newTree(t)
		if err := tree.AddDir(context.Background(), dir); err != nil {
			t.Fatal(err)
		}
		return write(t, tree)
	}
	first := build(names, time.Unix(1e9, 0))
	slices.Reverse(names)
	if second := build(names, time.Unix(1.5e9, 0)); !bytes.Equal(first, second) {
		t.Errorf("the same folder created in another order at another time gives different bytes:\n%s\nand\n%s",
			strings.Join(readAll(t, first), "\n"), strings.Join(readAll(t, second), "\n"))
	}
}

func TestTarOwnersNeedNoRoot(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeChar, Name: "dev/console", Mode: 0o600, Gid: 5, Devmajor: 5, Devminor: 1},
		{Typeflag: tar.TypeDir, Name: "home/me", Mode: 0o700, Uid: 1000, Gid: 1000},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tree := newTree(t)
	if err := tree.AddTar(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	want := []string{`dev 40755 0:0 inode 1 x2 ""`, `dev/console 20600 0:5 inode 2 x1 ""`, `home 40755 0:0 inode 3 x2 ""`, `home/me 40700 1000:1000 inode 4 x2 ""`}
	if got := readAll(t, write(t, tree)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The kernel reads archive after archive, each at a multiple of four.
func TestArchivesFollowEachOther(t *testing.T) {
	for size := range 5 {
		tree := newTree(t)
		if err := AddFile(tree, "f", 0o644, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		first := write(t, tree)
		both := append(first, write(t, everyTree(t))...)
		if at := bytes.Index(both[len(first):], []byte("070701")); at != 0 {
			t.Errorf("the second archive starts %d bytes too late", at)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(source string) error // after the file was added to the tree
		list   string
		wrong  string
	}{
		"a file that shrank":  {func(s string) error { return os.Truncate(s, 4) }, "file /f SOURCE 0644 0 0", "f: SOURCE no longer has 5 bytes"},
		"a file that grew":    {func(s string) error { return os.Truncate(s, 6) }, "file /f SOURCE 0644 0 0", "no longer has 5 bytes"},
		"a file that is gone": {os.Remove, "file /f SOURCE 0644 0 0", "no such file"},
		"the name of the end": {func(string) error { return nil }, "dir TRAILER!!! 0755 0 0", "which marks the end of an archive"},
	} {
		source := filepath.Join(t.TempDir(), "source")
		named := strings.NewReplacer("SOURCE", source)
		if err := os.WriteFile(source, []byte("12345"), 0o644); err != nil {
			t.Fatal(err)
		}
		tree := addList(t, newTree(t), named.Replace(tt.list))
		if err := tt.change(source); err != nil {
			t.Fatal(err)
		}
		if err := Write(io.Discard, tree); err == nil || !strings.Contains(err.Error(), named.Replace(tt.wrong)) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.wrong)
		}
	}
}

func TestWriteRefuses4GiB(t *testing.T) {
	huge := filepath.Join(t.TempDir(), "huge")
	if err := errors.Join(os.WriteFile(huge, nil, 0o644), os.Truncate(huge, 1<<32)); err != nil {
		t.Fatal(err)
	}
	tree := addList(t, newTree(t), "file /big "+huge+" 0644 0 0")
	if err := Write(io.Discard, tree); err == nil || !strings.Contains(err.Error(), "big: 4294967296 bytes are too many") {
		t.Errorf("got %v", err)
	}
}
