package boot

import (
	"errors"
	"fmt"
	"io"
	"minivmm/internal/unpack"
)

// Limits of unpacking: an image must not be able to fill a disk or the memory.
const (
	maxUnpacked = 512 << 20 // bytes; distribution kernels have 30 to 80 MiB
	maxRatio    = 64        // bytes out for one in; kernels have 3 to 6
	ratioFree   = 1 << 20   // bytes out to which the ratio does not apply
)

// packedData is compressed data in a file.
type packedData struct {
	codec     string // "gzip", as package unpack names it; "" is none
	off, size int64
	unpacked  int64 // announced length; 0: none
}

// errUnknownCodec is the cause when the payload's format is not one of package unpack: the
// kernel's own decompressor will know it.
var errUnknownCodec = errors.New("unknown compression")

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
	out, format, err := unpack.NewReader(io.NewSectionReader(r, d.off, d.size))
	if err != nil {
		return 0, cutShort(err)
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
		return n, fmt.Errorf("%s: more than %d bytes come out of %d", d.codec, limit, d.size)
	}
	if d.unpacked != 0 && n != d.unpacked {
		return n, fmt.Errorf("%s: %d bytes unpacked, %d announced", d.codec, n, d.unpacked)
	}
	return n, nil
}

// onlyWriter hides a file's ReadFrom, whose generic path would copy in small pieces.
type onlyWriter struct{ io.Writer }
