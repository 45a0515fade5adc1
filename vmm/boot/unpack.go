package boot

import (
	"errors"
	"fmt"
	"io"

	"minivmm/internal/unpack"
)

// Limits on unpacking: an image must not be able to fill the disk or memory.
const (
	maxUnpacked = 512 << 20 // bytes; distribution kernels have 30 to 80 MiB
	maxRatio    = 64        // output bytes per input byte; kernels have 3 to 6
	ratioFree   = 1 << 20   // output bytes to which the ratio does not apply
)

// packedData is compressed data in a file.
type packedData struct {
	codec     string // "gzip", ..., as in package unpack; "" for none
	off, size int64
	unpacked  int64 // declared size; 0: unknown
}

// errUnknownCodec means that package unpack does not support the payload's format. The kernel's own
// decompressor does.
var errUnknownCodec = errors.New("unknown compression")

// unpack writes the unpacked data of d, read from r, to w and returns its size. It streams the
// data, so it needs only memory for the codec's window.
func (d packedData) unpack(w io.Writer, r io.ReaderAt) (int64, error) {
	limit := min(maxUnpacked, ratioFree+maxRatio*d.size)
	if d.unpacked > limit {
		return 0, fmt.Errorf("%s: declared size %d for %d packed bytes exceeds the limit of %d", d.codec, d.unpacked, d.size, limit)
	}
	if d.unpacked != 0 {
		limit = d.unpacked
	}
	out, format, err := unpack.NewReader(io.NewSectionReader(r, d.off, d.size))
	if err != nil {
		return 0, orTruncated(err)
	}
	defer out.Close()
	if format == "" {
		return 0, errUnknownCodec
	}
	n, err := io.CopyBuffer(onlyWriter{w}, io.LimitReader(out, limit+1), make([]byte, 256<<10))
	if err != nil {
		return n, fmt.Errorf("%s: after %d bytes: %w", d.codec, n, err)
	}
	if n > limit {
		return n, fmt.Errorf("%s: %[3]d packed bytes unpack to more than %[2]d", d.codec, limit, d.size)
	}
	if d.unpacked != 0 && n != d.unpacked {
		return n, fmt.Errorf("%s: unpacked to %d bytes, declared size is %d", d.codec, n, d.unpacked)
	}
	return n, nil
}

// onlyWriter hides a file's ReadFrom, whose generic path would copy in small chunks.
type onlyWriter struct{ io.Writer }
