package filetree

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// zeros is an endless stream.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestBombsStopAtTheLimits(t *testing.T) {
	limits := Limits{Files: 100, SizeBytes: 1 << 20}
	many := func(n int, header func(i int) tar.Header) []byte {
		var all []tar.Header
		for i := range n {
			all = append(all, header(i))
		}
		return tarOf(t, all...)
	}
	var huge bytes.Buffer
	w := tar.NewWriter(&huge)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "huge", Size: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		r     io.Reader
		wrong string
	}{
		"many files":        {bytes.NewReader(many(200, func(i int) tar.Header { return file(fmt.Sprint(i), "") })), "more than 100 entries"},
		"many parents":      {bytes.NewReader(many(2, func(i int) tar.Header { return file(fmt.Sprint(i, strings.Repeat("/d", 60)), "") })), "more than 100 entries"},
		"many links":        {bytes.NewReader(append(many(1, func(int) tar.Header { return file("a", "") })[:512], many(200, func(i int) tar.Header { return link(fmt.Sprint(i), "a") })...)), "more than 100 entries"},
		"many whiteouts":    {bytes.NewReader(many(200, func(i int) tar.Header { return file(fmt.Sprint(".wh.", i), "") })), "more than 100 entries"},
		"many opaque marks": {bytes.NewReader(many(200, func(i int) tar.Header { return file(fmt.Sprint(i, "/.wh..wh..opq"), "") })), "more than 100 entries"},
		"one large file":    {io.MultiReader(&huge, zeros{}), "a file of 1099511627776 bytes exceeds the limit of 1048576 bytes"},
		"many large files":  {bytes.NewReader(many(20, func(i int) tar.Header { return file(fmt.Sprint(i), strings.Repeat("x", 100000)) })), "bytes exceeds the limit of 1048576 bytes"},
		"one file, often":   {bytes.NewReader(many(20, func(i int) tar.Header { return file("a", strings.Repeat("x", 100000)) })), "bytes exceeds the limit of 1048576 bytes"},
		"attributes": {bytes.NewReader(many(20, func(i int) tar.Header {
			return tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprint(i), PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 60000)}}
		})), "bytes of names and attributes"},
		"a whiteout with content":   {bytes.NewReader(many(3, func(i int) tar.Header { return file(fmt.Sprint(".wh.", i), strings.Repeat("x", 1<<20)) })), "uncompressed data is too long"},
		"zeros after the end":       {io.MultiReader(bytes.NewReader(many(1, func(int) tar.Header { return folder("a") })), zeros{}), "uncompressed data is too long"},
		"an endless row of repeats": {repeat(many(1, func(int) tar.Header { return folder("a") })[:512]), "uncompressed data is too long"},
	} {
		tree := newTree(t, limits)
		err := tree.AddLayer(context.Background(), tt.r)
		if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%s: got %v, want ErrTooLarge with %q", name, err, tt.wrong)
		}
		var used int64
		entries, err := os.ReadDir(tree.dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			used += info.Size()
		}
		if used > limits.SizeBytes {
			t.Errorf("%s: %d bytes were stored on the host", name, used)
		}
	}
}

func repeat(b []byte) io.Reader { return &repeater{b: b} }

type repeater struct {
	b   []byte
	off int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := copy(p, r.b[r.off:])
	r.off = (r.off + n) % len(r.b)
	return n, nil
}

// A sparse file of a few bytes may claim any size. The test uses the old GNU format: the size, and
// one segment at the end.
func TestSparseBombStopsAtTheLimit(t *testing.T) {
	b := tarOf(t, file("sparse", "12345678"))
	for _, tt := range []struct {
		size  uint64
		large bool
	}{{5000, false}, {1 << 32, true}} {
		b := bytes.Clone(b)
		copy(b[257:265], "ustar  \x00")
		b[156] = tar.TypeGNUSparse
		copy(b[386:], fmt.Sprintf("%011o\x00%011o\x00", tt.size-8, 8))
		copy(b[483:], fmt.Sprintf("%011o\x00", tt.size))
		sum(b[:512])
		tree := newTree(t, Limits{SizeBytes: 1 << 20})
		err := addTar(tree, b)
		if got := errors.Is(err, ErrTooLarge); got != tt.large || !tt.large && err != nil {
			t.Errorf("%d bytes: %v", tt.size, err)
		}
		if tt.large {
			continue
		}
		n, ok := tree.Get("sparse")
		if !ok || n.SizeBytes != 5000 {
			t.Fatalf("got %+v", n)
		}
		got, err := n.Content()
		if err != nil || !bytes.Equal(got, append(make([]byte, 4992), "12345678"...)) {
			t.Errorf("the content is wrong (%d bytes), %v", len(got), err)
		}
	}
}
