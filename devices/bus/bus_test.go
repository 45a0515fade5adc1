package bus

import (
	"bytes"
	"testing"
)

type recorder struct{ off, n uint64 }

func (r *recorder) Read(off uint64, p []byte)  { r.off, r.n = off, uint64(len(p)); clear(p) }
func (r *recorder) Write(off uint64, p []byte) { r.off, r.n = off, uint64(len(p)) }

func TestAttachRefusesRangesThatOverlapOrWrap(t *testing.T) {
	var b Bus
	if _, err := b.Attach(0x1000, 0x100, &recorder{}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		base, size uint64
		ok         bool
	}{
		{0xfff, 1, true}, {0xffe, 3, false}, {0x1000, 1, false}, {0x10ff, 1, false}, {0x1100, 0x10, true},
		{0x800, 0x1000, false}, {0x5000, 0, false}, {^uint64(0), 2, false}, {^uint64(0), 1, true},
	} {
		detach, err := b.Attach(tc.base, tc.size, &recorder{})
		if (err == nil) != tc.ok {
			t.Errorf("Attach(%#x, %#x) = %v, want ok %v", tc.base, tc.size, err, tc.ok)
		}
		if err == nil {
			detach()
			detach()
		}
	}
}

func TestAccessReachesTheHandlerOnlyWhenWhollyInside(t *testing.T) {
	var b Bus
	low, high := &recorder{}, &recorder{}
	if _, err := b.Attach(0x10, 8, low); err != nil {
		t.Fatal(err)
	}
	detach, err := b.Attach(0x18, 8, high)
	if err != nil {
		t.Fatal(err)
	}
	for addr := uint64(0); addr < 0x30; addr++ {
		for _, n := range []int{1, 2, 4, 8} {
			p := bytes.Repeat([]byte{0xaa}, n)
			got := b.Read(addr, p)
			last := addr + uint64(n) - 1
			want := addr >= 0x10 && last <= 0x17 || addr >= 0x18 && last <= 0x1f
			if got != want {
				t.Fatalf("Read(%#x, %d) = %v, want %v", addr, n, got, want)
			}
			if !want && !bytes.Equal(p, bytes.Repeat([]byte{0xff}, n)) {
				t.Fatalf("Read(%#x, %d) gave % x, want all ones", addr, n, p)
			}
			if want && addr >= 0x18 && (high.off != addr-0x18 || high.n != uint64(n)) {
				t.Fatalf("Read(%#x, %d) reached off %#x, n %d", addr, n, high.off, high.n)
			}
		}
	}
	detach()
	if b.Write(0x18, []byte{1}) {
		t.Error("a detached range still serves accesses")
	}
	if !b.Write(0x17, []byte{1}) || low.off != 7 {
		t.Error("detaching one range affected its neighbour")
	}
}
