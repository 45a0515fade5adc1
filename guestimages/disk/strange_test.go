package disk

import (
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

	"minivmm/guestimages/filetree"
	"minivmm/internal/testbed/testenv"
)

// capability is a struct vfs_cap_data (uapi/linux/capability.h), version 2: cap_net_raw, effective.
var capability = []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// acl is a struct posix_acl_xattr_header with entries: u::rwx g::r-x g:4:r-x m::r-x o::r-x.
var acl = []byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x04\x00\x05\x00\xff\xff\xff\xff\x08\x00\x05\x00\x04\x00\x00\x00\x10\x00\x05\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff")

// strange returns a tree of files that are hard to create for a user without root, in the command
// syntax of debugfs or for the tar reader of mkfs.erofs. For erofs it omits what mkfs.erofs cannot
// create.
func strange(t *testing.T, fs FS) *filetree.Tree {
	t.Helper()
	tree, err := filetree.New(t.TempDir(), filetree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_600_000_000, 123_456_789)
	put := func(n filetree.Node, content string) {
		t.Helper()
		var r io.Reader
		if content != "" {
			r = strings.NewReader(content)
		}
		if n.ModTime.IsZero() {
			n.ModTime = at
		}
		if err := tree.Put(n, r); err != nil {
			t.Fatal(err)
		}
	}
	put(filetree.Node{Path: "", Mode: unix.S_IFDIR | 0o1750, UID: 7, GID: 8, Xattrs: map[string][]byte{"user.root": []byte("yes")}}, "")
	names := []string{"plain", "with blank", " blanks ", `quo"te`, `"`, `back\slash\`, "new\nline", "carriage\rreturn", "tab\t", "-dash", "--", "<12>", "<2", "#hash", "star*",
		"'", "$HOME", "ünïcode", "latin\xff\xfe", "debugfs: ls -p <2>", strings.Repeat("x", 255), "...", ".hidden", "~", "a;b|c&d"}
	for i, name := range names {
		put(filetree.Node{Path: "names/" + name, Mode: unix.S_IFREG | 0o640, UID: uint32(70000 + i), GID: uint32(i)}, name)
		put(filetree.Node{Path: "folders/" + name, Mode: unix.S_IFDIR | 0o2711, UID: uint32(i), GID: 1 << 20}, "")
		put(filetree.Node{Path: "folders/" + name + "/" + name, Mode: unix.S_IFLNK | 0o777, Target: name, UID: 5}, "")
		if !strings.ContainsAny(name, "\n\r") {
			put(filetree.Node{Path: "folders/" + name + "/n" + name[:min(len(name), 200)], Mode: unix.S_IFBLK | 0o660, Major: 300, Minor: uint32(70000 + i), UID: 6, GID: 70000}, "")
			put(filetree.Node{Path: "devices/" + name, Mode: unix.S_IFCHR | 0o606, Major: 1, Minor: uint32(i)}, "")
		}
	}
	for i, mode := range []uint32{0, 0o4755, 0o2755, 0o6111, 0o1777, 0o200} {
		put(filetree.Node{Path: fmt.Sprintf("modes/%d", i), Mode: unix.S_IFREG | mode}, "x")
	}
	for i, sec := range []int64{-1 << 31, -1, 1, 1<<31 - 1, 1 << 31, 1<<33 + 5} {
		nsec := int64(i) * 50_000_000
		if fs == Erofs && sec < 0 {
			nsec = 0
		}
		put(filetree.Node{Path: fmt.Sprintf("times/%d", i), Mode: unix.S_IFREG | 0o644, ModTime: time.Unix(sec, nsec)}, "")
	}
	put(filetree.Node{Path: "kinds/fifo", Mode: unix.S_IFIFO | 0o604, UID: 1<<32 - 2, GID: 1<<32 - 2}, "")
	if fs != Erofs {
		put(filetree.Node{Path: "kinds/socket", Mode: unix.S_IFSOCK | 0o700, UID: 1<<32 - 2, GID: 1<<32 - 2}, "")
	}
	put(filetree.Node{Path: "kinds/link", Mode: unix.S_IFLNK | 0o777, Target: strings.Repeat("long/", 200)}, "")
	put(filetree.Node{Path: "kinds/empty", Mode: unix.S_IFREG | 0o600}, "")
	put(filetree.Node{Path: "kinds/large", Mode: unix.S_IFREG | 0o600}, strings.Repeat("0123456789abcdef", 20_000))
	put(filetree.Node{Path: "kinds/hole", Mode: unix.S_IFREG | 0o600}, strings.Repeat("\x00", 100_000)+"end")
	put(filetree.Node{Path: "hard", Mode: unix.S_IFREG | 0o751, UID: 9, GID: 9, Xattrs: map[string][]byte{"user.n": []byte("1")}}, "linked")
	put(filetree.Node{Path: "folders/with blank/hard", Link: "hard"}, "")
	put(filetree.Node{Path: "a-hard", Link: "hard"}, "")
	put(filetree.Node{Path: "lost+found", Mode: unix.S_IFDIR | 0o750, UID: 3}, "")
	for i := range 300 {
		put(filetree.Node{Path: fmt.Sprintf("many/%s%d", strings.Repeat("n", 100), i), Mode: unix.S_IFREG | 0o644, UID: uint32(i)}, "")
	}
	put(filetree.Node{Path: "xattrs/file", Mode: unix.S_IFREG | 0o755, Xattrs: map[string][]byte{
		"security.capability": capability, "user.with blank": []byte("\x00\n\"'"), `user.quo"te`: []byte("q"), "user.empty": {}, "trusted.t": []byte("t"), "user.long": bytes.Repeat([]byte("v"), 2000)}}, "x")
	put(filetree.Node{Path: "xattrs/folder", Mode: unix.S_IFDIR | 0o755, Xattrs: map[string][]byte{"system.posix_acl_access": acl, "system.posix_acl_default": acl}}, "")
	put(filetree.Node{Path: "xattrs/folder/below", Mode: unix.S_IFREG | 0o600}, "no ACL")
	put(filetree.Node{Path: "xattrs/same value", Mode: unix.S_IFREG | 0o755, Xattrs: map[string][]byte{"user.capability": capability}}, "")
	put(filetree.Node{Path: "xattrs/device", Mode: unix.S_IFCHR | 0o600, Major: 4, Minor: 64, Xattrs: map[string][]byte{"security.x": []byte("1")}}, "")
	put(filetree.Node{Path: "xattrs/link", Mode: unix.S_IFLNK | 0o777, Target: "file", Xattrs: map[string][]byte{"security.x": []byte("2")}}, "")
	put(filetree.Node{Path: "xattrs/fifo", Mode: unix.S_IFIFO | 0o600, Xattrs: map[string][]byte{"security.x": []byte("3"), "user.x": []byte("4")}}, "")
	// One file of the host is two files in the tree.
	twice := filepath.Join(t.TempDir(), "twice")
	list := fmt.Sprintf("file twice/0 %s 644 0 0\nfile twice/1 %[1]s 644 1 0\n", twice)
	if err := errors.Join(os.WriteFile(twice, []byte("twice"), 0o600), os.Chtimes(twice, at, at), tree.AddList(t.Context(), strings.NewReader(list), "")); err != nil {
		t.Fatal(err)
	}
	return tree
}

// describe formats the metadata of a node that an image must have. Extended attributes and content
// are checked separately.
func describe(n *filetree.Node, made time.Time) string {
	mtime := timeOf(n, made)
	s := fmt.Sprintf("%06o %d:%d %d.%09d", n.Mode, n.UID, n.GID, mtime.Unix(), mtime.Nanosecond())
	switch n.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		s += fmt.Sprintf(" size %d", n.SizeBytes)
	case unix.S_IFCHR, unix.S_IFBLK:
		s += fmt.Sprintf(" device %d:%d", n.Major, n.Minor)
	}
	return s
}

// compare reports an error for every path at which an image differs from the tree. got maps the
// image's paths to descriptions.
func compare(t *testing.T, tree *filetree.Tree, got map[string]string) {
	t.Helper()
	made := measure(tree).time
	want := map[string]string{}
	for n := range tree.All() {
		want[n.Path] = describe(n, made)
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] != want[path] {
			t.Errorf("%q:\n got %s\nwant %s", path, got[path], want[path])
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok && path != "lost+found" {
			t.Errorf("%q is in the image but not in the tree: %s", path, got[path])
		}
	}
}

// needErofs skips the test if mkfs.erofs is missing or too old.
func needErofs(t *testing.T) {
	t.Helper()
	_, err := (&Options{FS: Erofs}).mkfsErofs(t.Context())
	testenv.NeedNil(t, "erofs-utils", err)
}

// toolOutput runs a file system tool, which must succeed, and returns its output.
func toolOutput(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	path := lookTool(name)
	if path == "" {
		t.Fatalf("%s not found: apt-get install e2fsprogs erofs-utils", name)
	}
	out, errs, err := newTool(context.Background(), dir, path, args...).run()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	return string(out) + string(errs)
}
