package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"minivmm/guestimages/filetree"
	"minivmm/internal/unpack"
)

// endMark is the end marker of a tar. Some builders omit it, and container runtimes accept that.
var endMark [1024]byte

// logf logs one line for each step that may take long.
type logf = func(format string, args ...any)

// Unpack adds the image's layers to tree and logs each with logf. After an error the tree must not
// be used.
//
// mutate.Extract of go-containerregistry cannot replace it: a hard link to a file that a later layer
// replaces would get the new content, entries below symbolic links are not followed, and neither
// diff_ids nor the digests of a layout are verified.
func (im *Image) Unpack(ctx context.Context, tree *filetree.Tree, logf logf) error {
	for i, l := range im.layers {
		what := fmt.Sprintf("layer %d of %d", i+1, len(im.layers))
		if err := l.unpack(ctx, tree, logf, what); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

func (l layer) unpack(ctx context.Context, tree *filetree.Tree, logf logf, what string) error {
	blob, err := l.open(ctx)
	if err != nil {
		return classify(err)
	}
	defer blob.Close()
	logf("%s: %s, %s", what, l.name, size(l.sizeBytes))
	in := &progress{ctx: ctx, r: blob, logf: logf, what: what, total: l.sizeBytes, next: time.Now().Add(progressEvery)}
	packed := &verifier{r: in}
	if l.digest.Hex != "" {
		if packed, err = verify(in, l.digest, l.sizeBytes); err != nil {
			return err
		}
	}
	err = addLayer(ctx, tree, packed, l.diffID)
	if err == nil || errors.As(err, &InvalidError{}) && !errors.Is(err, filetree.ErrTooLarge) {
		// Only its end shows whether the blob is damaged.
		io.Copy(io.Discard, packed)
	}
	if packed.err != nil {
		return packed.err
	}
	return err
}

// addLayer adds the tar in packed, which may be compressed, to the tree. The digest of the
// uncompressed tar must be diffID.
func addLayer(ctx context.Context, tree *filetree.Tree, packed io.Reader, diffID v1.Hash) error {
	plain, _, err := unpack.NewReader(packed)
	if err != nil {
		return classify(err)
	}
	defer plain.Close()
	checked, err := verify(plain, diffID, -1)
	if err != nil {
		return err
	}
	// AddLayer changes the tree only after it has read everything, that is, after the digest was
	// verified.
	err = tree.AddLayer(ctx, io.MultiReader(checked, bytes.NewReader(endMark[:])))
	if checked.err != nil {
		err = checked.err
	}
	return classify(err)
}

// progressEvery is the time between two progress lines for one layer.
const progressEvery = 5 * time.Second

// progress logs the progress of a slow stream. It fails when its context is canceled.
type progress struct {
	ctx   context.Context
	r     io.Reader
	logf  logf
	what  string
	n     int64
	total int64
	next  time.Time
}

func (p *progress) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
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
