package kernel

import (
	"testing"

	"minivmm/internal/testbed/kerneltest"
)

// FuzzReadModinfo checks that reading arbitrary bytes returns, without a panic.
func FuzzReadModinfo(f *testing.F) {
	b := kerneltest.Module("vermagic=6.12.3 SMP", "depends=a,b")
	f.Add(b)
	f.Add(b[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := readModinfo(b)
		if err != nil {
			return
		}
		n := len(info.Release)
		for _, d := range info.Depends {
			n += len(d)
		}
		if n > 100*len(b) {
			t.Errorf("%d bytes of names out of %d", n, len(b))
		}
	})
}
