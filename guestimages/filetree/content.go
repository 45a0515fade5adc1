package filetree

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// store copies r to a new file in the tree's folder, which becomes the content of n.
func (t *Tree) store(ctx context.Context, n *Node, r io.Reader) error {
	file := filepath.Join(t.dir, strconv.Itoa(t.stored))
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	t.stored++
	size, err := t.fill(ctx, f, r)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err = cmp.Or(err, f.Close()); err != nil {
		os.Remove(file)
		return err
	}
	n.file, n.id, n.SizeBytes = file, idOf(&st), size
	return nil
}

// fill copies r into the new file f and leaves holes where blocks are all zero.
func (t *Tree) fill(ctx context.Context, f *os.File, r io.Reader) (size int64, err error) {
	const block = 4096
	var zeros [block]byte
	if t.buf == nil {
		t.buf = make([]byte, 16*block)
	}
	for {
		n := 0
		for n < len(t.buf) && err == nil {
			var m int
			m, err = r.Read(t.buf[n:])
			n += m
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
		if err := t.chargeSize(int64(n)); err != nil {
			return 0, err
		}
		for off := 0; off < n; off += block {
			part := t.buf[off:min(off+block, n)]
			if bytes.Equal(part, zeros[:len(part)]) {
				continue
			}
			if _, err := f.WriteAt(part, size+int64(off)); err != nil {
				return 0, err
			}
		}
		size += int64(n)
		if err == io.EOF {
			return size, f.Truncate(size)
		}
	}
}

// chargeSize counts n bytes of content against the limit.
func (t *Tree) chargeSize(n int64) error {
	if n > t.limits.SizeBytes-t.size {
		return fmt.Errorf("more than %d bytes of content: %w", t.limits.SizeBytes, ErrTooLarge)
	}
	t.size += n
	return nil
}
