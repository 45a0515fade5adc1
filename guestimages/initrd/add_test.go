package initrd

import (
	"bytes"
	"slices"
	"testing"
)

func TestSignatureIsCutOff(t *testing.T) {
	info := []byte{0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 4}
	signed := slices.Concat([]byte("module"), []byte("sign"), info, []byte(marker))
	for name, tt := range map[string]struct{ in, want []byte }{
		"signed":             {signed, []byte("module")},
		"unsigned":           {[]byte("module"), []byte("module")},
		"marker alone":       {[]byte(marker), []byte(marker)},
		"length out of file": {signed[7:], signed[7:]},
	} {
		if got := unsigned(tt.in); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
