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

// endMark is what a tar ends with. Some builders leave it out, which runtimes of containers take.
var endMark [1024]byte

// logf is told what takes time, a line each.
type logf = func(format string, args ...any)

// Unpack applies the image's layers to tree. logf is told of each. After an error the tree is not to
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
		// Whether the blob is damaged is known at its end.
		io.Copy(io.Discard, packed)
	}
	if packed.err != nil {
		return packed.err
	}
	return err
}

// addLayer adds the tar in packed, which has the digest diffID.
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
	// AddLayer changes the tree only after it has read everything, so after the digest was right.
	err = tree.AddLayer(ctx, io.MultiReader(checked, bytes.NewReader(endMark[:])))
	if checked.err != nil {
		err = checked.err
	}
	return classify(err)
}

// firstError keeps the first error that is not the end: who reads may tell it in other words.
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
