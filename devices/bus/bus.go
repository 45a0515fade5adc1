package bus

import (
	"fmt"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
)

// Handler serves accesses to one range. off is relative to the start of the range. p is 1, 2, 4 or
// 8 bytes, little endian, and never extends beyond the range. Several vCPUs may call both methods
// at once. Read must fill all of p.
type Handler interface {
	Read(off uint64, p []byte)
	Write(off uint64, p []byte)
}

// Bus is one address space. The zero Bus is empty and ready to use.
type Bus struct {
	mu     sync.Mutex // serialises Attach and detach
	ranges atomic.Pointer[[]attached]
}

type attached struct {
	base, last uint64 // both inclusive
	h          Handler
}

// Attach assigns the addresses base..base+sizeBytes-1 to h. It fails if the range is empty, wraps
// around or overlaps another. detach removes the range. An access in progress on another vCPU may
// still reach h once after detach returns.
func (b *Bus) Attach(base, sizeBytes uint64, h Handler) (detach func(), err error) {
	last := base + sizeBytes - 1
	if sizeBytes == 0 || last < base {
		return nil, fmt.Errorf("bus range %#x+%#x: empty or beyond the address space", base, sizeBytes)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.load()
	i := sort.Search(len(old), func(i int) bool { return old[i].last >= base })
	if i < len(old) && old[i].base <= last {
		return nil, fmt.Errorf("bus range %#x+%#x: overlaps %#x..%#x", base, sizeBytes, old[i].base, old[i].last)
	}
	table := slices.Insert(slices.Clone(old), i, attached{base: base, last: last, h: h})
	b.ranges.Store(&table)
	var once sync.Once
	return func() { once.Do(func() { b.detach(base) }) }, nil
}

func (b *Bus) detach(base uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	table := slices.DeleteFunc(slices.Clone(b.load()), func(a attached) bool { return a.base == base })
	b.ranges.Store(&table)
}

func (b *Bus) load() []attached {
	if p := b.ranges.Load(); p != nil {
		return *p
	}
	return nil
}

func (b *Bus) find(addr uint64, n int) (Handler, uint64, bool) {
	table := b.load()
	i := sort.Search(len(table), func(i int) bool { return table[i].last >= addr })
	if i == len(table) || table[i].base > addr || table[i].last-addr < uint64(n)-1 {
		return nil, 0, false
	}
	return table[i].h, addr - table[i].base, true
}

// Read fills p from addr and reports whether one range contains the whole access. If not, p is
// filled with ones, as on a PC.
func (b *Bus) Read(addr uint64, p []byte) bool {
	h, off, ok := b.find(addr, len(p))
	if !ok {
		for i := range p {
			p[i] = 0xff
		}
		return false
	}
	h.Read(off, p)
	return true
}

// Write stores p at addr and reports whether one range contains the whole access. If not, the write
// is dropped.
func (b *Bus) Write(addr uint64, p []byte) bool {
	h, off, ok := b.find(addr, len(p))
	if ok {
		h.Write(off, p)
	}
	return ok
}
