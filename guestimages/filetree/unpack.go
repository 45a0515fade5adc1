package filetree

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

// maxWindow bounds the memory that unpacking takes, in bytes: what zstd --long and three times what xz -9 ask for.
const maxWindow = 128 << 20

// Unpack returns r unpacked, by its first bytes: gzip, zstd, xz or bzip2. What starts like none of them is returned as it is,
// and packed is false. Closing frees what unpacking takes, and leaves r open.
func Unpack(r io.Reader) (_ io.ReadCloser, packed bool, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	head, err := in.Peek(6)
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		return z, true, named("gzip", err)
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(head) >= 4 && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte{0x2a, 0x4d, 0x18}): // a frame to skip first
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, true, named("zstd", err)
		}
		return z.IOReadCloser(), true, nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		z, err := xz.NewReader(in, maxWindow)
		return io.NopCloser(z), true, named("xz", err)
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(in)), true, nil
	}
	return io.NopCloser(in), false, nil
}

func named(format string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", format, err)
}

// stream is an unpacked input that ends early: with an error when ctx does, or when more than left bytes come. It says the
// end only in a read of its own, so that ended is true only for who read beyond the last byte.
type stream struct {
	ctx   context.Context
	r     io.Reader
	left  int64
	ended bool
}

var errEndless = errors.New("the unpacked stream does not end")

func (s *stream) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if s.ended {
		return 0, io.EOF
	}
	n, err := s.r.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return 0, fmt.Errorf("%w: %w", errEndless, ErrTooLarge)
	}
	if err == io.EOF {
		if n > 0 {
			return n, nil
		}
		s.ended = true
	}
	return n, err
}
