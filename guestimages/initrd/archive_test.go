package initrd

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/cavaliergopher/cpio"
)

func sample() *Archive {
	a := &Archive{}
	a.Symlink("/bin/sh", "busybox")
	a.add("/bin/busybox", entry{mode: 0o100755, uid: 1, gid: 2, data: []byte("seven b")})
	a.Dir("/tmp", 0o1777)
	a.CharDevice("/dev/console", 0o600, 5, 1)
	a.add("/dev/loop3", entry{mode: 0o060660, gid: 6, major: 7, minor: 3})
	a.File("/empty", 0o644, nil)
	return a
}

func write(t *testing.T, a *Archive) []byte {
	t.Helper()
	var b bytes.Buffer
	n, err := a.WriteTo(&b)
	if err != nil {
		t.Fatal(err)
	}
	if n != int64(b.Len()) {
		t.Fatalf("WriteTo returned %d bytes and wrote %d", n, b.Len())
	}
	return b.Bytes()
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
	r := cpio.NewReader(bytes.NewReader(write(t, sample())))
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
	b := write(t, sample())
	at := bytes.Index(b, []byte("dev/loop3"))
	if at < 110 {
		t.Fatal("dev/loop3 is not in the archive")
	}
	if got, want := string(b[at-110+78:at-110+94]), "0000000700000003"; got != want {
		t.Errorf("rdevmajor and rdevminor are %s, want %s", got, want)
	}
}

func TestSameEntriesGiveSameBytes(t *testing.T) {
	first := write(t, sample())
	for range 20 {
		if !bytes.Equal(first, write(t, sample())) {
			t.Fatal("two archives of the same entries differ")
		}
	}
	if len(first)%4 != 0 {
		t.Errorf("the archive has %d bytes, not a multiple of 4: another archive cannot follow it", len(first))
	}
}

func TestFileBelowAFileIsRefused(t *testing.T) {
	a := &Archive{}
	a.File("etc", 0o644, nil)
	a.File("etc/passwd", 0o644, nil)
	if _, err := a.WriteTo(io.Discard); err == nil {
		t.Error("a file below a file was written")
	}
}
