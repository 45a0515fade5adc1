package filetree

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// stream limits an uncompressed input: it fails when ctx is canceled or after more than left bytes.
// It never returns io.EOF together with data, so that ended is true only if the caller has read
// beyond the last byte.
type stream struct {
	ctx   context.Context
	r     io.Reader
	left  int64
	ended bool
}

var errEndless = errors.New("the uncompressed data is too long")

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
