package virtio

import (
	"cmp"
	"fmt"
	"slices"

	"minivmm/devices/guestmem"
)

// RingRange is one of the three parts of a split ring.
type RingRange struct {
	Name      string // the specification's name for this part
	GPA       guestmem.GPA
	SizeBytes uint64
	Align     uint64
}

// Ranges returns the address, size and alignment of each of the ring's three parts (virtio 1.2
// §2.7).
func (q Queue) Ranges() [3]RingRange {
	n := uint64(q.Size)
	return [3]RingRange{
		{"descriptor table", q.Desc, 16 * n, 16},
		{"driver ring", q.Driver, 6 + 2*n, 2},
		{"device ring", q.Device, 6 + 8*n, 4},
	}
}

// rings returns the enabled queues, or an error if a device must not use them. The size of each
// queue must be a power of two and at most the queue's maximum, each part of a ring must be aligned
// and lie in one RAM region, and no two parts may overlap. The caller holds f.mu.
func (f *Frontend) rings() ([]Queue, error) {
	type part struct {
		RingRange
		queue uint16
	}
	var queues []Queue
	var parts []part
	for i, s := range f.queues {
		if !s.enabled {
			continue
		}
		q := Queue{Index: uint16(i), Size: s.size, Desc: s.desc, Driver: s.driver, Device: s.device, Kick: f.bells[i].kick, Call: f.bells[i].call}
		if q.Size == 0 || q.Size&(q.Size-1) != 0 || q.Size > s.max {
			return nil, fmt.Errorf("queue %d: size %d is not a power of two up to %d", i, q.Size, s.max)
		}
		for _, r := range q.Ranges() {
			if uint64(r.GPA)%r.Align != 0 {
				return nil, fmt.Errorf("queue %d: %s at %#x is not aligned to %d bytes", i, r.Name, uint64(r.GPA), r.Align)
			}
			if _, err := f.mem.Window(r.GPA, r.SizeBytes); err != nil {
				return nil, fmt.Errorf("queue %d: %s: %w", i, r.Name, err)
			}
			parts = append(parts, part{r, q.Index})
		}
		queues = append(queues, q)
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.GPA, b.GPA) })
	for i := 1; i < len(parts); i++ {
		a, b := parts[i-1], parts[i]
		if a.GPA+guestmem.GPA(a.SizeBytes) > b.GPA {
			return nil, fmt.Errorf("queue %d: %s at %#x overlaps %s of queue %d at %#x", b.queue, b.Name, uint64(b.GPA), a.Name, a.queue, uint64(a.GPA))
		}
	}
	return queues, nil
}
