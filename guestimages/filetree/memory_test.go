package filetree

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// zipped returns a gzipped tar of n entries.
func zipped(t *testing.T, n int, header func(i int) tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := range n {
		h := header(i)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// heap returns the size of the live heap in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A few bytes of a compressed layer may contain many long paths and headers. A tree keeps only each
// entry's own name.
func TestTreeKeepsNoPathsAndNoHeaders(t *testing.T) {
	deep := strings.Repeat("a-folder-of-31-bytes-for-a-path/", 120)[:3840]
	for name, header := range map[string]func(i int) tar.Header{
		"long paths": func(i int) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%s%d", deep, i)} },
		"long headers": func(i int) tar.Header {
			return tar.Header{Typeflag: tar.TypeSymlink, Name: fmt.Sprint("n", i), Linkname: strings.Repeat("t", 101), PAXRecords: map[string]string{
				"SCHILY.xattr.user.a": "v", "comment": strings.Repeat("x", 4096)}}
		},
		"whiteouts in long headers": func(i int) tar.Header {
			return tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprint(".wh.é", i), PAXRecords: map[string]string{"comment": strings.Repeat("x", 4096)}}
		},
	} {
		const entries = 1_000
		layer := zipped(t, entries, header)
		plain, err := gzip.NewReader(bytes.NewReader(layer))
		if err != nil {
			t.Fatal(err)
		}
		tree := newTree(t, Limits{})
		before := heap()
		l := tree.newLayer()
		if err := l.readTar(t.Context(), &stream{ctx: t.Context(), r: plain, left: 1 << 40}, true); err != nil {
			t.Fatal(err)
		}
		read := heap()
		if err := l.apply(); err != nil {
			t.Fatal(err)
		}
		kept := heap()
		for what, bytes := range map[string]int64{"the layer": read - before, "the tree": kept - before} {
			if per := bytes / entries; per > 1000 {
				t.Errorf("%s: %s keeps %d bytes per entry, %d MiB for %d KiB of gzip", name, what, per, bytes>>20, len(layer)>>10)
			}
		}
		runtime.KeepAlive(tree)
		runtime.KeepAlive(l)
	}
}

// Whiteouts (which are kept as paths) and link targets count in full against the limit.
func TestNamesCountAgainstTheLimit(t *testing.T) {
	long := strings.Repeat(strings.Repeat("x", 250)+"/", 15)
	for name, header := range map[string]func(i int) tar.Header{
		"whiteouts":    func(i int) tar.Header { return file(fmt.Sprintf("%s.wh.%d", long, i), "") },
		"opaque marks": func(i int) tar.Header { return file(fmt.Sprintf("%s%d/.wh..wh..opq", long, i), "") },
		"targets":      func(i int) tar.Header { return symlink(fmt.Sprint(i), long) },
	} {
		var headers []tar.Header
		for i := range 2000 {
			headers = append(headers, header(i))
		}
		tree := newTree(t, Limits{Files: 10_000})
		err := addLayer(tree, tarOf(t, headers...))
		if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "bytes of names") || tree.meta > 4<<20 {
			t.Errorf("%s: %v after %d bytes of names; want ErrTooLarge", name, err, tree.meta)
		}
	}
}
