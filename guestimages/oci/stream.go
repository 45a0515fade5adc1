package oci

import (
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"minivmm/guestimages/filetree"
)

// contextReader fails when its context is canceled.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// bounded fails after more than left bytes.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return 0, invalidf("the uncompressed archive exceeds the size limit")
	}
	return n, err
}

// streamLimit returns the maximum length of a tar within the limits, in bytes: the files' content,
// and for each file its header, its extended header and the padding of the last block.
func streamLimit(l filetree.Limits) int64 {
	if l.Files == 0 {
		l.Files = filetree.DefaultLimits.Files
	}
	if l.SizeBytes == 0 {
		l.SizeBytes = filetree.DefaultLimits.SizeBytes
	}
	const perFile = 8 << 10
	if int64(l.Files) > (math.MaxInt64-l.SizeBytes)/perFile-1 {
		return math.MaxInt64
	}
	return l.SizeBytes + (int64(l.Files)+1)*perFile
}

// progressEvery is the time between two progress lines for one layer.
const progressEvery = 5 * time.Second

// progress logs the progress of a slow stream.
type progress struct {
	r     io.Reader
	logf  logf
	what  string
	n     int64
	total int64
	next  time.Time
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	if now := time.Now(); err == nil && now.After(p.next) {
		p.next = now.Add(progressEvery)
		p.logf("%s: %s of %s", p.what, size(p.n), size(p.total))
	}
	return n, err
}

// size formats a number of bytes for people.
func size(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
