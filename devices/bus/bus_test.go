package bus

import (
	"bytes"
	"testing"
)

type recorder struct{ off, n uint64 }

func (r *recorder) Read(off uint64, p []byte)  { r.off, r.n = off, uint64(len(p)); clear(p) }
func (r *recorder) Write(off uint64, p []byte) { r.off, r.n = off, uint64(len(p)) }

func TestAttachRefusesRangesThatOverlapOrWrap(t *testing.T) {
	for _, tc := range []struct {
		base, size uint64
		ok         bool
	}{
		{0xfff, 1, true}, {0xffe, 3, false}, {0x1000, 1, false}, {0x10ff, 1, false}, {0x1100, 0x10, true},
		{0x800, 0x1000, false}, {0x5000, 0, false}, {^uint64(0), 2, false}, {^uint64(0), 1, true},
	} {
		var b Bus
		if err := b.Attach(0x1000, 0x100, &recorder{}); err != nil {
			t.Fatal(err)
		}
		if err := b.Attach(tc.base, tc.size, &recorder{}); (err == nil) != tc.ok {
			t.Errorf("Attach(%#x, %#x) = %v, want ok %v", tc.base, tc.size, err, tc.ok)
		}
	}
}

func TestAccessReachesTheHandlerOnlyWhenWhollyInside(t *testing.T) {
	var b Bus
	low, high := &recorder{}, &recorder{}
	for base, h := range map[uint64]Handler{0x10: low, 0x18: high} {
		if err := b.Attach(base, 8, h); err != nil {
			t.Fatal(err)
		}
	}
	for addr := uint64(0); addr < 0x30; addr++ {
		for _, n := range []int{1, 2, 4, 8} {
			*low, *high = recorder{}, recorder{}
			var wantLow, wantHigh recorder
			p, want := bytes.Repeat([]byte{0xaa}, n), bytes.Repeat([]byte{0xff}, n)
			switch last := addr + uint64(n) - 1; {
			case addr >= 0x10 && last <= 0x17:
				wantLow, want = recorder{addr - 0x10, uint64(n)}, make([]byte, n)
			case addr >= 0x18 && last <= 0x1f:
				wantHigh, want = recorder{addr - 0x18, uint64(n)}, make([]byte, n)
			}
			if b.Read(addr, p); !bytes.Equal(p, want) || *low != wantLow || *high != wantHigh {
				t.Fatalf("Read(%#x, %d) gave % x and reached %v, %v, want % x and %v, %v", addr, n, p, *low, *high, want, wantLow, wantHigh)
			}
			*low, *high = recorder{}, recorder{}
			if b.Write(addr, p); *low != wantLow || *high != wantHigh {
				t.Fatalf("Write(%#x, %d) reached %v, %v, want %v, %v", addr, n, *low, *high, wantLow, wantHigh)
			}
		}
	}
}
