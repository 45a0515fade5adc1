package oci

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// verifier reads the content of a descriptor. It returns io.EOF only if the size and the digest are
// correct.
type verifier struct {
	r         io.Reader
	hash      hash.Hash
	want      v1.Hash
	sizeBytes int64 // -1: any
	n         int64
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
	v.n += int64(n)
	v.hash.Write(p[:n])
	switch {
	case v.sizeBytes >= 0 && v.n > v.sizeBytes:
		return 0, invalidf("%s is longer than its size of %d bytes", v.want, v.sizeBytes)
	case err == io.EOF && v.sizeBytes >= 0 && v.n < v.sizeBytes:
		return n, invalidf("%s is truncated: %d of %d bytes", v.want, v.n, v.sizeBytes)
	case err != nil && (err == io.EOF || v.n == v.sizeBytes):
		// The registry client verifies the digest too, but reports it differently.
		if bad := v.check(); bad != nil {
			return n, bad
		}
	case err != nil && v.sizeBytes >= 0:
		return n, fmt.Errorf("%s: transfer stopped after %d of %d bytes: %w", v.want, v.n, v.sizeBytes, err)
	}
	return n, err
}

func (v *verifier) check() error {
	if got := hex.EncodeToString(v.hash.Sum(nil)); got != v.want.Hex {
		return invalidf("%s is damaged: the digest of its content is %s:%s", v.want, v.want.Algorithm, got)
	}
	return nil
}

// readAll returns the verified content of a blob of at most limit bytes.
func readAll(r io.Reader, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, invalidf("%s is too long: %d bytes, at most %d are supported", d.Digest, d.Size, limit)
	}
	v, err := verify(r, d.Digest, d.Size)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(int(d.Size) + bytes.MinRead)
	_, err = b.ReadFrom(v)
	return b.Bytes(), err
}
