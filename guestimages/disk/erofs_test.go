package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/filetree"
)

func TestErofsMatchesTheTree(t *testing.T) {
	needErofs(t)
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	tree := strange(t, Erofs)
	image := filepath.Join(t.TempDir(), "an image")
	if err := FromTree(t.Context(), tree, image, false, Options{FS: Erofs, Label: "fifteen letters", UUID: "12345678-1234-4234-8234-123456789abc"}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	toolOutput(t, "", "fsck.erofs", image) // checks everything, including the superblock's checksum
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := &erofsReader{f: f, tree: tree, got: map[string]string{}, inodes: map[string]uint64{}, xattrs: map[string]map[string]string{}}
	r.folder(t, "", r.root(t))
	compare(t, tree, r.got)
	for n := range tree.All() {
		if len(r.xattrs[n.Path]) != len(n.Xattrs) {
			t.Errorf("%q has attributes %q", n.Path, r.xattrs[n.Path])
		}
		for name, value := range n.Xattrs {
			if got, ok := r.xattrs[n.Path][name]; !ok || got != string(value) {
				t.Errorf("%q: %s is %q, want %q", n.Path, name, got, value)
			}
		}
	}
	if a, b := r.inodes["hard"], r.inodes["a-hard"]; a != b || r.inodes["folders/with blank/hard"] != a || r.inodes["twice/0"] == r.inodes["twice/1"] {
		t.Error("hard links differ from the tree")
	}

	// Contents, read with fsck.erofs. Without root it cannot extract the whole strange tree.
	toolOutput(t, "", "fsck.erofs", "--extract="+out, "--no-preserve", withoutDevices(t, tree))
	for n := range tree.All() {
		if n.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		want, err := n.Content()
		if err != nil {
			t.Fatal(err)
		}
		unpacked := filepath.Join(out, n.Path)
		if err := os.Chmod(unpacked, 0o600); err != nil { // some modes deny access even to the owner
			t.Error(err)
		}
		if got, err := os.ReadFile(unpacked); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %v: got %q, want %q", n.Path, err, short(got), short(want))
		}
	}

	info, err := Inspect(image)
	if err != nil {
		t.Fatal(err)
	}
	if info.FS != "erofs" || info.Label != "fifteen letters" || info.UUID != "12345678-1234-4234-8234-123456789abc" || info.SizeBytes%blockSize != 0 || info.SizeBytes > 2<<20 || info.FSBytes != info.SizeBytes {
		t.Errorf("got %+v", info)
	}
}

// putContent adds a copy of another tree's regular file.
func putContent(to *filetree.Tree, n *filetree.Node) error {
	f, err := n.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	return to.Put(*n, f)
}

// withoutDevices returns an erofs with the files, folders and hard links of the tree, which can be
// extracted without root.
func withoutDevices(t *testing.T, tree *filetree.Tree) string {
	t.Helper()
	out, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for n := range tree.All() {
		switch {
		case n.Link != "":
			err = out.Put(*n, nil)
		case n.Mode&unix.S_IFMT == unix.S_IFREG:
			err = putContent(out, n)
		case n.Mode&unix.S_IFMT == unix.S_IFDIR:
			err = out.Put(*n, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := FromTree(t.Context(), out, image, false, Options{FS: Erofs}); err != nil {
		t.Fatal(err)
	}
	return image
}

// erofsReader reads an image in the format of fs/erofs/erofs_fs.h.
type erofsReader struct {
	f      *os.File
	tree   *filetree.Tree
	meta   int64
	got    map[string]string
	inodes map[string]uint64
	xattrs map[string]map[string]string
}

func (r *erofsReader) read(t *testing.T, off, n int64) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := r.f.ReadAt(b, off); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

func (r *erofsReader) root(t *testing.T) uint64 {
	super := r.read(t, 1024, 128)
	r.meta = int64(le.Uint32(super[40:])) * 4096
	return uint64(le.Uint16(super[14:]))
}

func (r *erofsReader) inode(t *testing.T, p string, nid uint64) (inode []byte, off int64) {
	t.Helper()
	off = r.meta + int64(nid)*32
	inode = r.read(t, off, 64)
	r.inodes[p] = nid
	n := filetree.Node{
		Mode: uint32(le.Uint16(inode[4:])), UID: le.Uint32(inode[24:]), GID: le.Uint32(inode[28:]),
		ModTime: time.Unix(int64(le.Uint64(inode[32:])), int64(le.Uint32(inode[40:]))), SizeBytes: int64(le.Uint64(inode[8:])),
	}
	if kind := n.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
		dev := le.Uint32(inode[16:]) // new_decode_dev
		n.Major, n.Minor = dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	}
	r.got[p] = describe(&n, time.Time{})
	r.xattrs[p] = map[string]string{}
	if count := int64(le.Uint16(inode[2:])); count > 0 {
		body := r.read(t, off+64, 12+4*(count-1))
		for at := 12; at+4 <= len(body); {
			name, value := int(body[at]), int(le.Uint16(body[at+2:]))
			prefix := map[byte]string{1: "user.", 2: "system.posix_acl_access", 3: "system.posix_acl_default", 4: "trusted.", 6: "security."}[body[at+1]]
			r.xattrs[p][prefix+string(body[at+4:at+4+name])] = string(body[at+4+name : at+4+name+value])
			at = (at + 4 + name + value + 3) &^ 3
		}
	}
	return inode, off
}

func (r *erofsReader) folder(t *testing.T, p string, nid uint64) {
	t.Helper()
	inode, off := r.inode(t, p, nid)
	size := int64(le.Uint64(inode[8:]))
	for start := int64(0); start < size; start += 4096 {
		n := min(4096, size-start)
		from := int64(le.Uint32(inode[16:]))*4096 + start
		if inode[0]>>1 == 2 && n < 4096 {
			from = off + 64
			if count := int64(le.Uint16(inode[2:])); count > 0 {
				from += 12 + 4*(count-1)
			}
		}
		block := r.read(t, from, n)
		count := int(le.Uint16(block[8:])) / 12
		for i := range count {
			e := block[12*i:]
			end := len(block)
			if i+1 < count {
				end = int(le.Uint16(e[12+8:]))
			}
			name, _, _ := strings.Cut(string(block[le.Uint16(e[8:]):end]), "\x00")
			if name == "." || name == ".." {
				continue
			}
			child := path.Join(p, name)
			if e[10] == 2 {
				r.folder(t, child, le.Uint64(e))
			} else {
				r.inode(t, child, le.Uint64(e))
			}
			want := map[string]byte{"10": 1, "04": 2, "02": 3, "06": 4, "01": 5, "14": 6, "12": 7}[r.got[child][:2]]
			if e[10] != want {
				t.Errorf("%q has type %d in its directory entry, want %d", child, e[10], want)
			}
		}
	}
}

func TestErofsNamesWhatItRejects(t *testing.T) {
	x := func(name string, bytes int) map[string][]byte { return map[string][]byte{name: make([]byte, bytes)} }
	for _, tt := range []struct {
		name string
		node filetree.Node
		size int64
		want string
	}{
		{"a socket", filetree.Node{Path: "s", Mode: unix.S_IFSOCK}, 0, `"s": erofs: mkfs.erofs cannot create sockets`},
		{"a large minor number", filetree.Node{Path: "d", Mode: unix.S_IFCHR, Minor: 1 << 19}, 0, `"d": erofs: mkfs.erofs cannot create a device with minor number 524288`},
		{"an attribute with an unknown name space", filetree.Node{Path: "f", Mode: unix.S_IFREG, Xattrs: x("strange.x", 1)}, 0, `"f": erofs: mkfs.erofs cannot store the extended attribute "strange.x"`},
		{"an attribute that a tar cannot name", filetree.Node{Path: "f", Mode: unix.S_IFREG, Xattrs: x("user.x=y", 1)}, 0, `"f": erofs: mkfs.erofs cannot store the extended attribute "user.x=y"`},
		{"large attributes", filetree.Node{Path: "f", Mode: unix.S_IFREG, Xattrs: x("user.x", 33<<10)}, 0, `"f": erofs: path, link and extended attributes need 3`},
		{"too little room", filetree.Node{Path: "f", Mode: unix.S_IFREG | 0o644}, 4096, `too small for this tree: as erofs it needs`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var content io.Reader
			if tt.size != 0 || tt.name == "large attributes" {
				needErofs(t)
			}
			if tt.size != 0 {
				content = bytes.NewReader(make([]byte, 100_000))
			}
			dir := t.TempDir()
			err := FromTree(t.Context(), treeOf(t, tt.node, content), filepath.Join(dir, "image"), false, Options{FS: Erofs, SizeBytes: tt.size})
			var input *InputError
			if !errors.As(err, &input) || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			nothingIn(t, dir)
		})
	}
}

// treeOf returns a tree with one node below its root.
func treeOf(t *testing.T, n filetree.Node, content io.Reader) *filetree.Tree {
	t.Helper()
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tree.Put(n, content); err != nil {
		t.Fatal(err)
	}
	return tree
}

// TestLargeErofsAttributes makes an attribute that needs many blocks.
func TestLargeErofsAttributes(t *testing.T) {
	needErofs(t)
	value := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)[:maxRecords-200]
	tree := treeOf(t, filetree.Node{Path: "f", Mode: unix.S_IFREG | 0o644, Xattrs: map[string][]byte{"user.x": value}}, strings.NewReader("content"))
	image := filepath.Join(t.TempDir(), "image")
	if err := FromTree(t.Context(), tree, image, false, Options{FS: Erofs}); err != nil {
		t.Fatal(err)
	}
	toolOutput(t, "", "fsck.erofs", image)
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := &erofsReader{f: f, tree: tree, got: map[string]string{}, inodes: map[string]uint64{}, xattrs: map[string]map[string]string{}}
	r.folder(t, "", r.root(t))
	if got := r.xattrs["f"]["user.x"]; got != string(value) {
		t.Errorf("got %d bytes, want %d", len(got), len(value))
	}
}

// fakeErofs puts a mkfs.erofs into PATH that prints its version and, when it must make an image,
// runs the shell commands.
func fakeErofs(t *testing.T, version, commands string) {
	t.Helper()
	bin := t.TempDir()
	script := "#!/bin/sh\necho " + version + "\ntest $1 = --version && exit 1\n" + commands
	if err := os.WriteFile(filepath.Join(bin, "mkfs.erofs"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
}

func TestOldMkfsErofsIsRefused(t *testing.T) {
	for version, want := range map[string]bool{
		"mkfs.erofs 1.5": false, "mkfs.erofs 1.7.1": false, "mkfs.erofs '(erofs-utils)' 1.8.4": false, "nothing known": false,
		"mkfs.erofs '(erofs-utils)' 1.8.5": true, "mkfs.erofs '(erofs-utils)' 1.8.10-g1234567": true, "mkfs.erofs '(erofs-utils)' 1.10": true, "mkfs.erofs 2.0": true,
	} {
		fakeErofs(t, version, "")
		_, err := (&Options{FS: Erofs}).mkfsErofs(t.Context())
		if (err == nil) != want {
			t.Errorf("%s: got %v", version, err)
		}
		if !want && !(errors.Is(err, errors.ErrUnsupported) && strings.Contains(err.Error(), "1.8.5") && strings.Contains(err.Error(), "--fs ext4")) {
			t.Errorf("%s: got %v, want the version that is needed and the remedy", version, err)
		}
	}
}

// TestContentThatCannotBeReadStopsMkfsErofs truncates a file of the tree. The fake mkfs.erofs waits
// for the rest of it, as the real one does.
func TestContentThatCannotBeReadStopsMkfsErofs(t *testing.T) {
	fakeErofs(t, "mkfs.erofs 1.8.6", "cat > /dev/null; sleep 1000")
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(file, []byte("content"), 0o600), tree.AddList(t.Context(), strings.NewReader("file f "+file+" 0 0 0"), ""), os.Truncate(file, 3)); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	err = FromTree(t.Context(), tree, filepath.Join(dir, "image"), false, Options{FS: Erofs})
	if err == nil || !strings.Contains(err.Error(), `disk: "f": `+file+" became smaller") {
		t.Errorf("got %v", err)
	}
	nothingIn(t, dir)
}

// TestFailureOfMkfsErofsEndsTheWriter has a mkfs.erofs that fails before it has read the tree.
func TestFailureOfMkfsErofsEndsTheWriter(t *testing.T) {
	fakeErofs(t, "mkfs.erofs 1.8.6", "echo no thanks >&2; exit 1")
	tree := treeOf(t, filetree.Node{Path: "f", Mode: unix.S_IFREG}, bytes.NewReader(make([]byte, 1<<20)))
	dir := t.TempDir()
	err := FromTree(t.Context(), tree, filepath.Join(dir, "image"), false, Options{FS: Erofs})
	if err == nil || !strings.Contains(err.Error(), "no thanks") {
		t.Errorf("got %v", err)
	}
	nothingIn(t, dir)
}
