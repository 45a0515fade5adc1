//go:build !race

package queue_test

import (
	"sync"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
)

// The driver rewrites a descriptor while the device reads it. Whatever mix of old and new values a
// fetch sees, the device must use exactly the values that it checked: a chain must be consistent
// and inside RAM. The test relies on the data race, so it is built without the race detector.
func TestADescriptorThatChangesUnderTheReaderIsReadOnce(t *testing.T) {
	r := newRig(t, 4, indirect)
	inRAM := queuetest.Desc{GPA: r.bufs, Len: 64, Flags: queuetest.Write}
	faces := []queuetest.Desc{
		inRAM,
		{GPA: 1 << 40, Len: 0xfffffff0},
		{GPA: r.bufs, Len: 16, Flags: queuetest.Next, Next: 1},
		{GPA: r.bufs + 0x1000, Len: 16, Flags: queuetest.Indirect},
		{GPA: r.bufs + 8, Len: 0xffffffff, Flags: queuetest.Next | queuetest.Write, Next: 0xffff},
	}
	r.PutDesc(r.bufs+0x1000, inRAM)
	r.SetDesc(1, inRAM)
	stop := make(chan struct{})
	var flipping sync.WaitGroup
	flipping.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				r.SetDesc(0, faces[i%len(faces)])
			}
		}
	})
	defer flipping.Wait()
	defer close(stop)
	good, bad := 0, 0
	for range 200000 {
		if good+bad > 0 && good > 1000 && bad > 1000 {
			break
		}
		// A ring that was refused stays refused, so each try uses a new ring.
		guestmem.Store16(r.bytes(r.q.Device, 64), 2, 0)
		r.SetAvail(0, 0)
		r.SetAvailIdx(1)
		q := r.open(indirect)
		var c queue.Chain
		ok, err := q.Next(&c)
		if err != nil {
			bad++
			q.Close()
			continue
		}
		if !ok {
			t.Fatal("no chain")
		}
		good++
		for _, bufs := range []queue.Buffers{c.Readable, c.Writable} {
			for _, b := range bufs {
				if !inside(r.mem, b) || len(b) > 64 {
					t.Fatalf("a buffer of %d bytes, in RAM: %t", len(b), inside(r.mem, b))
				}
			}
		}
		room := c.Writable.Len()
		if err := q.Done(&c, uint32(room)); err != nil {
			t.Fatalf("done with all %d bytes: %v", room, err)
		}
		q.Close()
	}
	if good == 0 || bad == 0 {
		t.Errorf("%d good and %d bad chains: the race did not occur", good, bad)
	}
}
