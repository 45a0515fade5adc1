package pci

import (
	"testing"

	"minivmm/devices/bus"
)

// FuzzBAR gives a function six registers of any kind, and windows anywhere. It checks that every
// assigned BAR is aligned, inside its window and disjoint from the others, and that sizing returns
// the size.
func FuzzBAR(f *testing.F) {
	f.Add([]byte{0x0c, 0x4e, 0x00, 0xcc, 0x00, 0x04, 0x44}, uint64(0xe000_0000), uint64(0x1000_0000))
	f.Fuzz(func(t *testing.T, kinds []byte, base, size uint64) {
		o := Options{
			MMIO: &bus.Bus{}, IO: &bus.Bus{}, Memory: Window{base & (1<<33 - 1), size & (1<<33 - 1)},
			Ports: Window{base >> 12 & 0xffff, size & 0x7fff},
		}
		var r *Root
		if refused(func() { r = NewRoot(o) }) {
			return
		}
		type span struct {
			io         bool
			base, last uint64
		}
		var taken []span
		for len(kinds) > 0 && len(taken) < 100 {
			n := min(len(kinds), 6)
			fn := NewFunction(Identity{})
			bars := map[int]BAR{}
			for i, k := range kinds[:n] {
				b := BAR{SizeBytes: 1 << (k & 0x1f), IO: k&0x40 != 0, Handler: ram{}}
				if !refused(func() { fn.AddBAR(i, b) }) {
					bars[i] = b
				}
			}
			kinds = kinds[n:]
			if _, err := r.Insert(fn); err != nil {
				return
			}
			for i, b := range bars {
				base, w := fn.BARAddress(i), o.Memory
				if b.IO {
					w = o.Ports
				}
				s := span{b.IO, base, base + b.SizeBytes - 1}
				if base%b.SizeBytes != 0 || s.last < base {
					t.Fatalf("bar %d of %#x bytes is at %#x", i, b.SizeBytes, base)
				}
				if base < w.Base || s.last-w.Base >= w.SizeBytes {
					t.Fatalf("bar %d, %#x..%#x, is not in window %+v", i, base, s.last, w)
				}
				for _, other := range taken {
					if s.io == other.io && s.base <= other.last && other.base <= s.last {
						t.Fatalf("bar %d, %#x..%#x, overlaps %#x..%#x", i, s.base, s.last, other.base, other.last)
					}
				}
				taken = append(taken, s)
				if size := sizeOf(fn, i, b); size != b.SizeBytes {
					t.Fatalf("bar %d: sizing returns %#x bytes, want %#x", i, size, b.SizeBytes)
				}
			}
		}
	})
}

// sizeOf sizes BAR i as drivers do.
func sizeOf(f *Function, i int, b BAR) uint64 {
	var p [4]byte
	reg, kind := regBAR+4*uint64(i), uint32(0xf)
	if b.IO {
		kind = 3
	}
	f.write(reg, []byte{0xff, 0xff, 0xff, 0xff})
	f.Read(reg, p[:])
	f.write(reg, make([]byte, 4))
	return uint64(-(le.Uint32(p[:]) &^ kind))
}
