package initrd

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"

	"minivmm/guestimages/filetree"
)

func sample(t *testing.T) *filetree.Tree {
	t.Helper()
	tree := addList(t, newTree(t), "slink /bin/sh busybox 0777 0 0\ndir /tmp 1777 0 0\nnod /dev/console 0600 0 0 c 5 1\nnod /dev/loop3 0660 0 6 b 7 3\n")
	if err := errors.Join(
		tree.Put(filetree.Node{Path: "bin/busybox", Mode: 0o100755, UID: 1, GID: 2}, strings.NewReader("seven b")),
		AddFile(tree, "/empty", 0o644, nil),
	); err != nil {
		t.Fatal(err)
	}
	return tree
}

// The reader is another author's, so an error would have to be in both.
func TestAnotherReaderFindsEveryEntry(t *testing.T) {
	type got struct {
		name, link, data string
		mode             cpio.FileMode
		uid, gid         int
	}
	want := []got{
		{name: "bin", mode: 0o040755},
		{name: "bin/busybox", data: "seven b", mode: 0o100755, uid: 1, gid: 2},
		{name: "bin/sh", link: "busybox", mode: 0o120777},
		{name: "dev", mode: 0o040755},
		{name: "dev/console", mode: 0o020600},
		{name: "dev/loop3", mode: 0o060660, gid: 6},
		{name: "empty", mode: 0o100644},
		{name: "tmp", mode: 0o041777},
	}
	r := cpio.NewReader(bytes.NewReader(write(t, sample(t))))
	for _, w := range want {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("before %s: %v", w.name, err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %v", w.name, err)
		}
		g := got{h.Name, h.Linkname, string(data), h.Mode, h.Uid, h.Guid}
		if g != w {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last entry: %v, want EOF", err)
	}
}

func TestDeviceNumbersStandInTheNodeFields(t *testing.T) {
	b := write(t, sample(t))
	at := bytes.Index(b, []byte("dev/loop3"))
	if at < 110 {
		t.Fatal("dev/loop3 is not in the archive")
	}
	if got, want := string(b[at-110+78:at-110+94]), "0000000700000003"; got != want {
		t.Errorf("rdevmajor and rdevminor are %s, want %s", got, want)
	}
}

func TestSameEntriesGiveSameBytes(t *testing.T) {
	first := write(t, sample(t))
	for range 20 {
		if !bytes.Equal(first, write(t, sample(t))) {
			t.Fatal("two archives of the same entries differ")
		}
	}
}
