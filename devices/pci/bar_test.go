package pci

import (
	"testing"

	"minivmm/devices/bus"
)

// FuzzBAR gives a function six registers of any kind and three windows, two of them anywhere. It
// checks that every assigned BAR is aligned, inside a window and disjoint from the others, and that
// sizing returns the size.
func FuzzBAR(f *testing.F) {
	f.Add([]byte{0x0c, 0x4e, 0x00, 0xcc, 0x00, 0x04}, uint64(0xe000_0000), uint64(0x1000_0000), uint64(1<<36), uint64(1<<36))
	f.Fuzz(func(t *testing.T, kinds []byte, lowBase, lowSize, highBase, highSize uint64) {
		var mmio, io bus.Bus
		o := Options{
			MMIO: &mmio, IO: &io, Low: Window{lowBase, lowSize}, High: Window{highBase, highSize},
			Ports: Window{lowBase >> 12 & 0xffff, lowSize & 0x7fff},
		}
		r, err := NewRoot(o)
		if err != nil {
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
				b := BAR{SizeBytes: 1 << (k & 0x3f), Is64: k&0x40 != 0, Prefetchable: k&0x80 != 0, Handler: ram{}}
				if b.IO = b.SizeBytes <= 256 && k>>6 == 2; b.IO {
					b.Prefetchable = false
				}
				if fn.AddBAR(i, b) == nil {
					bars[i] = b
				}
			}
			kinds = kinds[n:]
			if _, err := r.Insert(fn); err != nil {
				if mmio.Write(lowBase, []byte{0}) && len(taken) == 0 {
					t.Fatalf("a refused function serves accesses at %#x", lowBase)
				}
				continue
			}
			for i, b := range bars {
				base, ok := fn.BARAddress(i)
				s := span{b.IO, base, base + b.SizeBytes - 1}
				if !ok || base%b.SizeBytes != 0 || s.last < base {
					t.Fatalf("bar %d of %#x bytes is at %#x", i, b.SizeBytes, base)
				}
				inside := base >= lowBase && base-lowBase < lowSize && s.last-lowBase < lowSize
				if b.Is64 {
					inside = inside || base >= highBase && base-highBase < highSize && s.last-highBase < highSize
				}
				if b.IO {
					inside = base >= o.Ports.Base && s.last-o.Ports.Base < o.Ports.SizeBytes && s.last < 1<<16
				}
				if !inside {
					t.Fatalf("bar %d, %#x..%#x, is not in a window of %+v", i, base, s.last, o)
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
	half := func(reg uint64) uint32 {
		var p [4]byte
		f.Write(reg, []byte{0xff, 0xff, 0xff, 0xff})
		f.Read(reg, p[:])
		f.Write(reg, make([]byte, 4))
		return le.Uint32(p[:])
	}
	reg := regBAR + 4*uint64(i)
	kind := uint32(0xf)
	if b.IO {
		kind = 3
	}
	mask := 0xffff_ffff_0000_0000 | uint64(half(reg)&^kind)
	if b.Is64 {
		mask = uint64(half(reg+4))<<32 | mask&0xffff_ffff
	}
	return -mask
}
