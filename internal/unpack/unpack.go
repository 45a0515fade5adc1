// Package unpack reads compressed streams in bounded memory.
package unpack

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// maxWindow bounds the memory that a dictionary takes, in bytes: what zstd --long and zstd -22 --ultra ask for, and more
// than xz -9 and the kernel's own build do.
const maxWindow = 128 << 20

// HeadSize is how many bytes Format wants to see.
const HeadSize = 6

// formats are known by their first bytes.
var formats = []struct {
	name  string
	magic string
	open  func(io.Reader) (io.ReadCloser, error)
}{
	{"gzip", "\x1f\x8b", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"xz", "\xfd7zXZ\x00", func(r io.Reader) (io.ReadCloser, error) {
		z, err := xz.NewReader(r, maxWindow)
		return io.NopCloser(z), err
	}},
	{"zstd", "\x28\xb5\x2f\xfd", openZstd},
	{"lz4", "\x02\x21\x4c\x18", openLZ4}, // legacy format: the kernel's build
	{"lz4", "\x04\x22\x4d\x18", openLZ4}, // frame format: lz4(1)
	{"bzip2", "BZh", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
}

// openZstd reads in the caller's goroutine and with one window's memory: the default keeps several windows and a goroutine
// for each CPU.
func openZstd(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

func openLZ4(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(lz4.NewReader(r)), nil }

// find returns the index in formats of the one that starts like head, or -1.
func find(head []byte) int {
	// zstd may have a frame to skip first, RFC 8878 section 3.1.2.
	skipped := len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
	for i, f := range formats {
		if bytes.HasPrefix(head, []byte(f.magic)) || skipped && f.name == "zstd" {
			return i
		}
	}
	return -1
}

// Format names the compression format of data that starts with head: "gzip", "xz", "zstd", "lz4", "bzip2", or "" for none
// of them.
func Format(head []byte) string {
	i := find(head)
	if i < 0 {
		return ""
	}
	return formats[i].name
}

// NewReader returns r unpacked, and the format that it had. Where that is "", r comes out as it is. The caller bounds the
// bytes that come out. Closing the result frees what unpacking takes, and leaves r open.
func NewReader(r io.Reader) (_ io.ReadCloser, format string, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	head, err := in.Peek(HeadSize)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	i := find(head)
	if i < 0 {
		return io.NopCloser(in), "", nil
	}
	out, err := formats[i].open(in)
	if err != nil {
		return nil, formats[i].name, fmt.Errorf("%s: %w", formats[i].name, err)
	}
	return out, formats[i].name, nil
}
