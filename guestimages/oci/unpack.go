package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
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
		// Read the blob to its end: only then is it known whether the blob is damaged.
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
	// AddLayer changes the tree only after it has read everything: the digest is then verified.
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

// verifier reads the content of a descriptor. It returns io.EOF only if the size and the digest are
// correct. It keeps its first other error, because its reader may replace that error with another.
type verifier struct {
	r         io.Reader
	hash      hash.Hash // nil: nothing is verified
	want      v1.Hash
	sizeBytes int64 // -1: any
	n         int64
	err       error
}

func verify(r io.Reader, want v1.Hash, sizeBytes int64) (*verifier, error) {
	h, err := v1.Hasher(want.Algorithm)
	if err != nil {
		return nil, invalidf("digest %s: %w", want, err)
	}
	return &verifier{r: r, hash: h, want: want, sizeBytes: sizeBytes}, nil
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	if v.hash != nil {
		v.n += int64(n)
		v.hash.Write(p[:n])
		err = v.check(err)
	}
	if err != nil && err != io.EOF && v.err == nil {
		v.err = err
	}
	return n, err
}

// check returns the error of a read that ended with err.
func (v *verifier) check(err error) error {
	switch {
	case v.sizeBytes >= 0 && v.n > v.sizeBytes:
		return invalidf("%s is longer than its size of %d bytes", v.want, v.sizeBytes)
	case err == io.EOF && v.n < v.sizeBytes:
		return invalidf("%s is truncated: %d of %d bytes", v.want, v.n, v.sizeBytes)
	case err == io.EOF, err != nil && v.n == v.sizeBytes:
		// The registry client verifies the digest too, but reports it differently.
		if got := fmt.Sprintf("%x", v.hash.Sum(nil)); got != v.want.Hex {
			return invalidf("%s is damaged: the digest of its content is %s:%s", v.want, v.want.Algorithm, got)
		}
	case err != nil && v.sizeBytes >= 0:
		return fmt.Errorf("%s: transfer stopped after %d of %d bytes: %w", v.want, v.n, v.sizeBytes, err)
	}
	return err
}

// fetch returns a verified manifest or configuration of at most limit bytes. open is a method of a
// store.
func fetch(ctx context.Context, open func(context.Context, v1.Descriptor) (io.ReadCloser, error), d v1.Descriptor, limit int64) ([]byte, error) {
	r, err := open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if d.Size < 0 || d.Size > limit {
		return nil, invalidf("%s is too long: %d bytes, at most %d are supported", d.Digest, d.Size, limit)
	}
	v, err := verify(r, d.Digest, d.Size)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(v)
}
