package queue_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
)

const (
	indirect = virtio.FeatureRingIndirectDesc
	eventIdx = virtio.FeatureRingEventIdx
	long     = 2 * time.Minute
)

var each = map[string]virtio.Features{"plain": 0, "indirect": indirect, "event index": eventIdx, "both": indirect | eventIdx}

// rig is both sides of a ring in 1 MiB of RAM; buffers start at bufs.
type rig struct {
	*queuetest.Ring
	t    testing.TB
	mem  *guestmem.Memory
	q    virtio.Queue
	bufs guestmem.GPA
}

func newRig(t testing.TB, size uint16, features virtio.Features) *rig {
	mem, err := guestmem.New([]guestmem.Range{{GPA: 0x10000, SizeBytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	q, end := queuetest.Layout(0x10000, size)
	for _, n := range []struct {
		to   **virtio.Notifier
		name string
	}{{&q.Kick, "kick"}, {&q.Call, "call"}} {
		if *n.to, err = virtio.NewNotifier("test-" + n.name); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { q.Kick.Close(); q.Call.Close(); mem.Close() })
	return &rig{Ring: queuetest.New(t, mem, q, features), t: t, mem: mem, q: q, bufs: end}
}

func (r *rig) open(features virtio.Features) *queue.Queue {
	q, err := queue.Open(r.mem, r.q, features)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { q.Close() })
	return q
}

// serve runs do in a goroutine until the test ends or calls stop.
func (r *rig) serve(features virtio.Features, do func(*queue.Chain) (uint32, error)) (stop func() error) {
	q := r.open(features)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Serve(ctx, do) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	r.t.Cleanup(func() { stop() })
	return stop
}

func (r *rig) bytes(gpa guestmem.GPA, n int) []byte {
	w, err := r.mem.Window(gpa, uint64(n))
	if err != nil {
		r.t.Fatal(err)
	}
	return w
}

// upper answers a request with its letters in upper case.
func upper(c *queue.Chain) (uint32, error) {
	p := make([]byte, c.Readable.Len())
	c.Readable.Read(p)
	return uint32(c.Writable.Write(bytes.ToUpper(p))), nil
}
