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

// withoutDevices returns an erofs with the files, folders and hard links of the tree, which can be extracted without root.
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
	if isDevice(&n) {
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
	x := map[string][]byte{"security.x": []byte("1")}
	for _, tt := range []struct {
		name string
		node filetree.Node
		size int64
		want string
	}{
		{"a link's attribute", filetree.Node{Path: "l", Mode: unix.S_IFLNK, Target: "x", Xattrs: x}, 0, `"l": erofs: setting extended attributes of symbolic links`},
		{"a fifo's attribute", filetree.Node{Path: "f", Mode: unix.S_IFIFO, Xattrs: x}, 0, `"f": erofs: setting extended attributes of symbolic links`},
		{"two attributes staged as one", filetree.Node{Path: "f", Mode: unix.S_IFREG, Xattrs: map[string][]byte{"security.x": nil, "user.x": nil}}, 0, `"f": erofs: setting the extended attribute "user.x"`},
		{"an attribute with an unknown name space", filetree.Node{Path: "f", Mode: unix.S_IFREG, Xattrs: map[string][]byte{"strange.x": nil}}, 0, `"f": erofs: setting the extended attribute "strange.x"`},
		{"too little room", filetree.Node{Path: "f", Mode: unix.S_IFREG | 0o644}, 4096, `too small for this tree: as erofs it needs`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree, err := filetree.New(t.TempDir(), filetree.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			var content io.Reader
			if tt.node.Mode == unix.S_IFREG|0o644 {
				content = bytes.NewReader(make([]byte, 100_000))
			}
			if err := tree.Put(tt.node, content); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			err = FromTree(t.Context(), tree, filepath.Join(dir, "image"), false, Options{FS: Erofs, SizeBytes: tt.size})
			var input *InputError
			if !errors.As(err, &input) || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			nothingIn(t, dir)
		})
	}
}
