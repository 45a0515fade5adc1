package filetree

import (
	"context"
	"errors"
	"fmt"
	"io"
)

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
