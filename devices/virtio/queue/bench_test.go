package queue_test

import (
	"testing"

	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
)

// BenchmarkChains measures the cost of the ring for a packet of 64 KiB in 17 receive buffers of one
// page each.
func BenchmarkChains(b *testing.B) {
	const size, perPacket = 128, 17
	r := newRig(b, size, eventIdx)
	for i := range uint16(size) {
		r.SetDesc(i, queuetest.Desc{GPA: 0x20000, Len: 4096, Flags: queuetest.Write})
		r.SetAvail(i, i)
	}
	q := r.open(eventIdx)
	chains, sizes := make([]queue.Chain, perPacket), make([]uint32, perPacket)
	avail := uint16(0)
	for b.Loop() {
		avail += perPacket
		r.SetAvailIdx(avail)
		for i := range chains {
			if ok, err := q.Next(&chains[i]); !ok || err != nil {
				b.Fatal(ok, err)
			}
			sizes[i] = uint32(chains[i].Writable.Len())
		}
		if err := q.DoneTogether(chains, sizes); err != nil {
			b.Fatal(err)
		}
	}
}
