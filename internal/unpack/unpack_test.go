package unpack

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const text = "\x7fELF module\n"

// pack returns the text packed by w, a writer to b.
func pack(t *testing.T, b *bytes.Buffer, w io.WriteCloser, err error) []byte {
	t.Helper()
	if err == nil {
		_, err = w.Write([]byte(text))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// unhex decodes the output of xz(1) and bzip2(1) for the text: these formats have no writer here.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFormatsAreUnpacked(t *testing.T) {
	var g, z, l, legacy bytes.Buffer
	zw, zerr := zstd.NewWriter(&z)
	old := lz4.NewWriter(&legacy)
	packedZstd := pack(t, &z, zw, zerr)
	skip := []byte{0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'x', 'x', 'x'}
	for _, tt := range []struct {
		name, format string
		data         []byte
	}{
		{"gzip", "gzip", pack(t, &g, gzip.NewWriter(&g), nil)},
		{"xz", "xz", unhex(t, "fd377a585a0000016922de360200210116000000742fe5a301000b7f454c46206d6f64756c650a0083c76ec00001200ca2ddb4bc9042990d010000000001595a")},
		{"zstd", "zstd", packedZstd},
		{"zstd with a frame to skip", "zstd", slices.Concat(skip, packedZstd)},
		{"lz4", "lz4", pack(t, &l, lz4.NewWriter(&l), nil)},
		{"lz4 of the kernel", "lz4", pack(t, &legacy, old, old.Apply(lz4.LegacyOption(true)))},
		{"bzip2", "bzip2", unhex(t, bzip2Hex)},
		{"plain", "", []byte(text)},
		{"short", "", []byte("BZ")},
		{"empty", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Format(tt.data); got != tt.format {
				t.Errorf("Format returns %q", got)
			}
			r, format, err := NewReader(bytes.NewReader(tt.data))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			want := text
			if tt.format == "" {
				want = string(tt.data)
			}
			if err = errors.Join(err, r.Close()); err != nil || format != tt.format || string(got) != want {
				t.Errorf("got %q of %q, %v", got, format, err)
			}
		})
	}
}

func TestBrokenInputIsAnError(t *testing.T) {
	for _, start := range []string{"\x1f\x8bxx", "\xfd7zXZ\x00xx", "\x28\xb5\x2f\xfd\xff\xff\xff\xff", "BZhx"} {
		r, format, err := NewReader(bytes.NewReader([]byte(start)))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil || format == "" {
			t.Errorf("%q: got format %q, %v", start, format, err)
		}
	}
	broken := errors.New("broken")
	if _, _, err := NewReader(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

const bzip2Hex = "425a6839314159265359215754ac000005d58000104000030406068200a000228c9b41ea10340d05f12cb2c0d177245385090215754ac0"
