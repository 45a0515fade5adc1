package oci

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

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
		if got := hex.EncodeToString(v.hash.Sum(nil)); got != v.want.Hex {
			return invalidf("%s is damaged: the digest of its content is %s:%s", v.want, v.want.Algorithm, got)
		}
	case err != nil && v.sizeBytes >= 0:
		return fmt.Errorf("%s: transfer stopped after %d of %d bytes: %w", v.want, v.n, v.sizeBytes, err)
	}
	return err
}

// fetch returns the verified content of a manifest or configuration of at most limit bytes. open is
// a method of a store.
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
