package boot

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// Limits of unpacking: an image must not be able to fill a disk or the memory.
const (
	maxUnpacked = 512 << 20 // bytes; distribution kernels have 30 to 80 MiB
	maxRatio    = 64        // bytes out for one in; kernels have 3 to 6
	ratioFree   = 1 << 20   // bytes out to which the ratio does not apply
	maxWindow   = 128 << 20 // dictionary: what zstd -22 --ultra and xz of the kernel's build use
)

// packedData is compressed data in a file.
type packedData struct {
	codec     codec
	off, size int64
	unpacked  int64 // announced length; 0: none
}

// codec names a compression format; "" is none.
type codec string

const gzipCodec codec = "gzip"

// errUnknownCodec is the cause when the payload's format is none of codecs: the
// kernel's own decompressor will know it.
var errUnknownCodec = errors.New("unknown compression")

// format is a compression format: how it starts and how it is read.
type format struct {
	codec codec
	magic []byte
	open  func(io.Reader) (io.Reader, func(), error)
}

func formats() []format {
	return []format{
		{gzipCodec, []byte{0x1f, 0x8b}, func(r io.Reader) (io.Reader, func(), error) {
			z, err := gzip.NewReader(r)
			return z, nil, err
		}},
		{"xz", []byte("\xfd7zXZ\x00"), func(r io.Reader) (io.Reader, func(), error) {
			z, err := xz.NewReader(r, maxWindow)
			return z, nil, err
		}},
		{"zstd", []byte{0x28, 0xb5, 0x2f, 0xfd}, openZstd},
		{"lz4", []byte{0x02, 0x21, 0x4c, 0x18}, openLZ4}, // legacy format: the kernel's build
		{"lz4", []byte{0x04, 0x22, 0x4d, 0x18}, openLZ4}, // frame format: lz4(1)
		{"bzip2", []byte("BZh"), func(r io.Reader) (io.Reader, func(), error) {
			return bzip2.NewReader(r), nil, nil
		}},
	}
}

func openLZ4(r io.Reader) (io.Reader, func(), error) { return lz4.NewReader(r), nil, nil }

// openZstd reads in this goroutine and with one window's memory: the default
// keeps several windows and a goroutine for each CPU.
func openZstd(r io.Reader) (io.Reader, func(), error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, nil, err
	}
	return z, z.Close, nil
}

// codecOf tells the compression format by the first bytes.
func codecOf(head []byte) codec {
	for _, f := range formats() {
		if bytes.HasPrefix(head, f.magic) {
			return f.codec
		}
	}
	return ""
}

// unpack writes d's data, which is in r, to w and returns its length. It
// streams: what it holds is the codec's window.
func (d packedData) unpack(w io.Writer, r io.ReaderAt) (int64, error) {
	limit := min(maxUnpacked, ratioFree+maxRatio*d.size)
	if d.unpacked > limit {
		return 0, fmt.Errorf("%s: %d bytes announced for %d packed ones, the limit is %d", d.codec, d.unpacked, d.size, limit)
	}
	if d.unpacked != 0 {
		limit = d.unpacked
	}
	in := bufio.NewReaderSize(io.NewSectionReader(r, d.off, d.size), 256<<10)
	head, err := in.Peek(8)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", d.codec, cutShort(err))
	}
	for _, f := range formats() {
		if !bytes.HasPrefix(head, f.magic) {
			continue
		}
		out, done, err := f.open(in)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", d.codec, err)
		}
		if done != nil {
			defer done()
		}
		n, err := io.CopyBuffer(onlyWriter{w}, io.LimitReader(out, limit+1), make([]byte, 256<<10))
		if err != nil {
			return n, fmt.Errorf("%s: after %d bytes: %w", d.codec, n, err)
		}
		if n > limit {
			return n, fmt.Errorf("%s: more than %d bytes come out of %d", d.codec, limit, d.size)
		}
		if d.unpacked != 0 && n != d.unpacked {
			return n, fmt.Errorf("%s: %d bytes unpacked, %d announced", d.codec, n, d.unpacked)
		}
		return n, nil
	}
	return 0, errUnknownCodec
}

// onlyWriter hides a file's ReadFrom, whose generic path would copy in small pieces.
type onlyWriter struct{ io.Writer }
