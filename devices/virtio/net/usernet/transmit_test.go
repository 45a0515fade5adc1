package usernet

import (
	"fmt"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
)

// The guest gets an interrupt for returned buffers immediately, except after a small frame, which
// is likely to get an answer soon.
func TestSmallFramesDelayTheInterrupt(t *testing.T) {
	for _, tt := range []struct {
		size uint16
		held int // number of small frames after which the interrupt is immediate
	}{{4, 1}, {16, 4}, {64, maxHeld}} {
		t.Run(fmt.Sprint(tt.size), func(t *testing.T) { giveBack(t, tt.size, tt.held) })
	}
}

// testRing returns both sides of a ring, and the address of free memory for buffers.
func testRing(t *testing.T, size uint16) (*queuetest.Ring, *queue.Queue, guestmem.GPA) {
	const at = 0x10000
	mem, err := guestmem.New([]guestmem.Range{{GPA: at, SizeBytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	layout, end := queuetest.Layout(at, size)
	for _, n := range []**virtio.Notifier{&layout.Kick, &layout.Call} {
		if *n, err = virtio.NewNotifier("test"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*n).Close() })
	}
	ring := queuetest.New(t, mem, layout, 0)
	q, err := queue.Open(mem, layout, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return ring, q, end
}

func giveBack(t *testing.T, ringSize uint16, held int) {
	ring, q, room := testRing(t, ringSize)
	layout := ring.Queue()
	armed := 0
	s := &sender{q: q, later: func() { armed++ }, mayHold: mayHold(ringSize)}
	send := func(sizes ...uint32) {
		t.Helper()
		for _, size := range sizes {
			ring.Add(queuetest.Desc{GPA: room, Len: hdrBytes + size})
		}
		var batch []inbound
		if served, err := s.take(&batch); err != nil || served != len(sizes) || len(batch) != len(sizes) {
			t.Fatalf("took %d of %d, %d frames: %v", served, len(sizes), len(batch), err)
		}
		for range sizes {
			if _, ok := ring.Used(); !ok {
				t.Fatal("a buffer was not returned immediately")
			}
		}
	}
	told := func(want bool) {
		t.Helper()
		if got := layout.Call.Drain(); got != want {
			t.Errorf("interrupt: %v, want %v", got, want)
		}
	}

	quiet := held > 1
	send(60)
	told(!quiet)
	s.signal() // after the delay
	told(quiet)
	s.signal()
	told(false)
	send(1514)
	told(true)
	for range held - 1 {
		send(60)
	}
	told(false)
	send(60)
	told(true)
	want := held - 1
	if quiet {
		want++
	}
	if armed != want {
		t.Errorf("armed %d times, want %d", armed, want)
	}
	if ringSize > 9 {
		send(60, 60, 60, 60, 60, 60, 60, 60, 60) // several small frames at once
		told(true)
	}
}
