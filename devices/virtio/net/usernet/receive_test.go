package usernet

import (
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio/queue/queuetest"
)

// A driver always sees all buffers of a frame at once: Linux drops
// an incomplete frame (virtio 1.2 §5.1.6.4.1).
func TestTheBuffersOfAFrameComeBackTogether(t *testing.T) {
	const buffers, size, frames = 16, 256, 5000
	ring, q, room := testRing(t, 32)
	r := newReceiver(q, true, func(err error) { t.Error(err) })
	sent := make(chan struct{})
	next := make(chan struct{})
	go func() {
		defer close(sent)
		for range next {
			if r.send(frame{raw: make([]byte, buffers*size-hdrBytes)}) != 1 {
				t.Error("a frame was not accepted")
			}
		}
	}()
	defer func() { close(next); <-sent }()
	for n := range uint16(frames) {
		for i := range buffers {
			ring.Add(queuetest.Desc{GPA: room + guestmem.GPA(i*size), Len: size, Flags: queuetest.Write})
		}
		next <- struct{}{}
		for ring.UsedIdx() == n*buffers { // the driver polls
		}
		if got := ring.UsedIdx() - n*buffers; got != buffers {
			t.Fatalf("%d of %d buffers of frame %d", got, buffers, n)
		}
		for range buffers {
			if u, ok := ring.Used(); !ok || u.Len != size {
				t.Fatalf("a buffer of %d bytes, %v", u.Len, ok)
			}
		}
	}
}
