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
	in := io.Reader(&progress{r: contextReader{ctx, blob}, logf: logf, what: what, total: l.sizeBytes, next: time.Now().Add(progressEvery)})
	packed := &firstError{r: in}
	if l.digest.Hex != "" {
		if packed.r, err = verify(in, l.digest, l.sizeBytes); err != nil {
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
	v, err := verify(plain, diffID, -1)
	if err != nil {
		return err
	}
	checked := &firstError{r: v}
	// AddLayer changes the tree only after it has read everything, that is, after the digest was
	// verified.
	err = tree.AddLayer(ctx, io.MultiReader(checked, bytes.NewReader(endMark[:])))
	if checked.err != nil {
		err = checked.err
	}
	return classify(err)
}

// firstError keeps the first error other than io.EOF, because its reader may replace that error
// with another.
type firstError struct {
	r   io.Reader
	err error
}

func (f *firstError) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF && f.err == nil {
		f.err = err
	}
	return n, err
}
