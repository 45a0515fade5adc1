package guestmem

import (
	"errors"
	"math/big"
	"sync"
	"testing"
)

func newMemory(t *testing.T, ranges ...Range) *Memory {
	t.Helper()
	m, err := New(ranges)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestNewRefusesRangesThatAreNotPageAlignedAscendingAndDisjoint(t *testing.T) {
	for _, ranges := range [][]Range{
		{{0, 0}}, {{0, 100}}, {{1, PageSize}}, {{0, 2 * PageSize}, {PageSize, PageSize}},
		{{PageSize, PageSize}, {0, PageSize}}, {{^GPA(PageSize - 1), 2 * PageSize}},
	} {
		if m, err := New(ranges); err == nil {
			m.Close()
			t.Errorf("New(%v) succeeded", ranges)
		}
	}
}

// TestWindowAgreesWithAModel compares Window and HVA with arithmetic that cannot wrap, around every
// edge of a memory with a hole.
func TestWindowAgreesWithAModel(t *testing.T) {
	ranges := []Range{{0, 4 * PageSize}, {4 * PageSize, PageSize}, {1 << 32, 2 * PageSize}}
	m := newMemory(t, ranges...)
	inside := func(gpa, n uint64) bool {
		for _, r := range ranges {
			lo := new(big.Int).SetUint64(uint64(r.GPA))
			hi := new(big.Int).Add(lo, new(big.Int).SetUint64(r.SizeBytes))
			from := new(big.Int).SetUint64(gpa)
			to := new(big.Int).Add(from, new(big.Int).SetUint64(n))
			if from.Cmp(lo) >= 0 && from.Cmp(hi) < 0 && to.Cmp(hi) <= 0 {
				return true
			}
		}
		return false
	}
	edges := []uint64{0, 1, PageSize, 4 * PageSize, 5 * PageSize, 1 << 31, 1 << 32, 1<<32 + PageSize, 1<<32 + 2*PageSize, ^uint64(0)}
	sizes := []uint64{0, 1, 2, PageSize - 1, PageSize, PageSize + 1, 4 * PageSize, 1 << 32, ^uint64(0), ^uint64(0) - PageSize}
	for _, edge := range edges {
		for delta := -2; delta <= 2; delta++ {
			gpa := edge + uint64(delta)
			for _, n := range sizes {
				w, err := m.Window(GPA(gpa), n)
				if (err == nil) != inside(gpa, n) {
					t.Fatalf("Window(%#x, %#x) = %v, want inside %v", gpa, n, err, inside(gpa, n))
				}
				hva, herr := m.HVA(GPA(gpa), n)
				if (herr == nil) != (err == nil) {
					t.Fatalf("HVA(%#x, %#x) = %v, but Window says %v", gpa, n, herr, err)
				}
				if err != nil {
					if !errors.Is(err, ErrOutOfRange) {
						t.Fatalf("Window(%#x, %#x) = %v, want ErrOutOfRange", gpa, n, err)
					}
					continue
				}
				if uint64(len(w)) != n || uint64(cap(w)) != n {
					t.Fatalf("Window(%#x, %#x) has len %#x cap %#x", gpa, n, len(w), cap(w))
				}
				for _, r := range m.Regions() {
					if off := gpa - uint64(r.GPA); gpa >= uint64(r.GPA) && off < uint64(len(r.Bytes)) && hva != r.HVA()+uintptr(off) {
						t.Fatalf("HVA(%#x) = %#x, want %#x", gpa, hva, r.HVA()+uintptr(off))
					}
				}
			}
		}
	}
}

func TestStore16LeavesTheNeighbourAlone(t *testing.T) {
	m := newMemory(t, Range{0, PageSize})
	b, err := m.Window(0, 4)
	if err != nil {
		t.Fatal(err)
	}
	const n = 20000
	var wg sync.WaitGroup
	for _, off := range []int{0, 2} {
		wg.Go(func() {
			for i := range n {
				Store16(b, off, uint16(i))
				if got := Load16(b, off); got != uint16(i) {
					t.Errorf("field %d: got %d, want %d", off, got, i)
					return
				}
			}
		})
	}
	wg.Wait()
	if b[0] != (n-1)&0xff || b[1] != (n-1)>>8 {
		t.Errorf("bytes % x are not in little-endian order", b)
	}
}

// TestHugePagesFit checks that each region is at an address where KVM can map its huge pages,
// whatever address the kernel's mmap would choose.
func TestHugePagesFit(t *testing.T) {
	for range 8 { // the address that mmap chooses varies
		m, err := New([]Range{{0, 3 * PageSize}, {5 * PageSize, 4 << 20}, {1 << 32, 8 << 20}})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		for _, r := range m.Regions() {
			if got, want := r.HVA()%hugePageSize, uintptr(r.GPA)%hugePageSize; got != want {
				t.Errorf("region %#x is at host address %#x: offset %#x within a huge page, want %#x", uint64(r.GPA), r.HVA(), got, want)
			}
		}
	}
}
