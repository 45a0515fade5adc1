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

// maxWindow is the maximum size of a dictionary in bytes. zstd --long and zstd -22 --ultra need
// this much; xz -9 and the kernel build need less.
const maxWindow = 128 << 20

// HeadSize is the number of bytes that Format needs.
const HeadSize = 6

type format struct {
	name  string
	magic string // the first bytes
	open  func(io.Reader) (io.ReadCloser, error)
}

var formats = []format{
	{"gzip", "\x1f\x8b", func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) }},
	{"xz", "\xfd7zXZ\x00", func(r io.Reader) (io.ReadCloser, error) {
		z, err := xz.NewReader(r, maxWindow)
		return io.NopCloser(z), err
	}},
	{"zstd", "\x28\xb5\x2f\xfd", openZstd},
	{"lz4", "\x02\x21\x4c\x18", openLZ4}, // legacy format, used by the kernel build
	{"lz4", "\x04\x22\x4d\x18", openLZ4}, // frame format: lz4(1)
	{"bzip2", "BZh", func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil }},
}

// openZstd returns a reader that uses the caller's goroutine and the memory of one window. The
// default uses several windows and a goroutine per CPU.
func openZstd(r io.Reader) (io.ReadCloser, error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return z.IOReadCloser(), nil
}

func openLZ4(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(lz4.NewReader(r)), nil }

// find returns the format of data that starts with head, or the zero format.
func find(head []byte) format {
	// A zstd stream may start with a skippable frame, RFC 8878 section 3.1.2.
	skipped := len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18})
	for _, f := range formats {
		if bytes.HasPrefix(head, []byte(f.magic)) || skipped && f.name == "zstd" {
			return f
		}
	}
	return format{}
}

// Format returns the compression format of data that starts with head: "gzip", "xz", "zstd", "lz4",
// "bzip2", or "" for any other data.
func Format(head []byte) string { return find(head).name }

// NewReader returns a reader that decompresses r, and the format of r. If the format is "", the
// reader returns the data of r unchanged. The caller must limit the size of the output. The caller
// must close the returned reader. Close frees the reader's memory and leaves r open.
func NewReader(r io.Reader) (_ io.ReadCloser, format string, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	head, err := in.Peek(HeadSize)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	f := find(head)
	if f.open == nil {
		return io.NopCloser(in), "", nil
	}
	out, err := f.open(in)
	if err != nil {
		return nil, f.name, fmt.Errorf("%s: %w", f.name, err)
	}
	return out, f.name, nil
}
