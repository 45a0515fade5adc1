package queue_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/internal/task"
)

func TestABrokenRingStopsTheQueuePermanently(t *testing.T) {
	const size = 8
	for name, c := range map[string]struct {
		features virtio.Features
		breakIt  func(r *rig)
	}{
		"available index jumps": {0, func(r *rig) { r.SetAvailIdx(size + 1) }},
		"available index back":  {0, func(r *rig) { r.SetAvailIdx(0xffff) }},
		"head out of range":     {0, func(r *rig) { r.SetAvail(0, size); r.SetAvailIdx(1) }},
		"next out of range": {0, func(r *rig) {
			r.SetDesc(0, queuetest.Desc{GPA: r.bufs, Len: 1, Flags: queuetest.Next, Next: size})
			r.SetAvailIdx(1)
		}},
		"chain in a loop": {0, func(r *rig) {
			r.SetDesc(0, queuetest.Desc{GPA: r.bufs, Len: 1, Flags: queuetest.Next})
			r.SetAvailIdx(1)
		}},
		"empty chain in a loop": {0, func(r *rig) { r.SetDesc(0, queuetest.Desc{Flags: queuetest.Next}); r.SetAvailIdx(1) }},
		"buffer outside RAM":    {0, func(r *rig) { r.Add(queuetest.Desc{GPA: 0x100, Len: 1}) }},
		"buffer beyond RAM":     {0, func(r *rig) { r.Add(queuetest.Desc{GPA: 0x10000 + 1<<20 - 1, Len: 2}) }},
		"buffer of 4 GiB":       {0, func(r *rig) { r.Add(queuetest.Desc{GPA: r.bufs, Len: 0xffffffff}) }},
		"buffer wraps":          {0, func(r *rig) { r.Add(queuetest.Desc{GPA: ^guestmem.GPA(0), Len: 2}) }},
		"readable after writable": {0, func(r *rig) {
			r.Add(queuetest.Desc{GPA: r.bufs, Len: 1, Flags: queuetest.Write}, queuetest.Desc{GPA: r.bufs, Len: 1})
		}},
		"indirect without the feature": {0, func(r *rig) { r.AddIndirect(r.bufs, queuetest.Desc{GPA: r.bufs, Len: 1}) }},
		"indirect in indirect":         {indirect, func(r *rig) { r.AddIndirect(r.bufs, queuetest.Desc{GPA: r.bufs, Len: 16, Flags: queuetest.Indirect}) }},
		"indirect with next": {indirect, func(r *rig) {
			r.Add(queuetest.Desc{GPA: r.bufs, Len: 16, Flags: queuetest.Indirect}, queuetest.Desc{GPA: r.bufs, Len: 1})
		}},
		"indirect of nothing":       {indirect, func(r *rig) { r.Add(queuetest.Desc{GPA: r.bufs, Flags: queuetest.Indirect}) }},
		"indirect of 17 bytes":      {indirect, func(r *rig) { r.Add(queuetest.Desc{GPA: r.bufs, Len: 17, Flags: queuetest.Indirect}) }},
		"indirect of 4 GiB":         {indirect, func(r *rig) { r.Add(queuetest.Desc{GPA: r.bufs, Len: 0xfffffff0, Flags: queuetest.Indirect}) }},
		"indirect longer than size": {indirect, func(r *rig) { r.Add(queuetest.Desc{GPA: r.bufs, Len: 16 * (size + 1), Flags: queuetest.Indirect}) }},
		"indirect outside RAM":      {indirect, func(r *rig) { r.Add(queuetest.Desc{GPA: 0x100, Len: 16, Flags: queuetest.Indirect}) }},
		"indirect in a loop": {indirect, func(r *rig) {
			r.PutDesc(r.bufs, queuetest.Desc{GPA: r.bufs, Len: 1, Flags: queuetest.Next})
			r.Add(queuetest.Desc{GPA: r.bufs, Len: 16, Flags: queuetest.Indirect})
		}},
		"direct and indirect together too long": {indirect, func(r *rig) {
			r.PutDesc(r.bufs, queuetest.Desc{GPA: r.bufs, Len: 1, Flags: queuetest.Next, Next: 1})
			for i := range guestmem.GPA(size - 1) {
				r.PutDesc(r.bufs+16*(i+1), queuetest.Desc{GPA: r.bufs, Len: 1, Flags: queuetest.Next, Next: uint16(i + 2)})
			}
			r.PutDesc(r.bufs+16*(size-1), queuetest.Desc{GPA: r.bufs, Len: 1})
			r.Add(queuetest.Desc{GPA: r.bufs, Len: 1}, queuetest.Desc{GPA: r.bufs, Len: 16 * size, Flags: queuetest.Indirect})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, size, c.features)
			q := r.open(c.features)
			c.breakIt(r)
			served := 0
			err := q.Serve(t.Context(), func(*queue.Chain) (uint32, error) { served++; return 0, nil })
			if !errors.Is(err, queue.ErrBadRing) {
				t.Fatalf("error %v, want %v", err, queue.ErrBadRing)
			}
			if served != 0 || r.UsedIdx() != 0 {
				t.Errorf("%d chains served, used.idx %d", served, r.UsedIdx())
			}
			r.SetAvailIdx(0)
			var chain queue.Chain
			if ok, again := q.Next(&chain); ok || again != err {
				t.Errorf("the error was not latched: %t, %v", ok, again)
			}
		})
	}
}

func TestAChainOf4GiBIsRefused(t *testing.T) {
	// This memory is never touched, so it uses no RAM.
	const half = 512 << 20
	mem, err := guestmem.New([]guestmem.Range{{GPA: 0, SizeBytes: half}})
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	for n, ok := range map[int]bool{7: true, 8: false} {
		r := newRig(t, 8, 0)
		layout, _ := queuetest.Layout(0, 8)
		layout.Kick, layout.Call = r.q.Kick, r.q.Call
		ring := queuetest.New(t, mem, layout, 0)
		ring.Add(slices.Repeat([]queuetest.Desc{{Len: half, Flags: queuetest.Write}}, n)...)
		q, err := queue.Open(mem, layout, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		var c queue.Chain
		got, err := q.Next(&c)
		if got != ok || ok != (err == nil) {
			t.Errorf("%d times 512 MiB: %t, %v", n, got, err)
		}
	}
}

func TestErrorsOfTheBackendStopTheQueue(t *testing.T) {
	for name, do := range map[string]func(*queue.Chain) (uint32, error){
		"an error":                   func(*queue.Chain) (uint32, error) { return 0, io.ErrUnexpectedEOF },
		"more than the buffers hold": func(*queue.Chain) (uint32, error) { return 9, nil },
	} {
		r := newRig(t, 8, 0)
		r.Add(queuetest.Desc{GPA: r.bufs, Len: 8, Flags: queuetest.Write})
		if err := r.open(0).Serve(t.Context(), do); err == nil || errors.Is(err, queue.ErrBadRing) || r.UsedIdx() != 0 {
			t.Errorf("%s: error %v, used.idx %d", name, err, r.UsedIdx())
		}
	}
}

func TestAHeadInUseByTheDeviceIsRefused(t *testing.T) {
	r := newRig(t, 8, 0)
	q := r.open(0)
	r.SetDesc(0, queuetest.Desc{GPA: r.bufs, Len: 1})
	r.SetAvailIdx(2)
	var a, b queue.Chain
	if ok, err := q.Next(&a); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := q.Next(&b); ok || !errors.Is(err, queue.ErrBadRing) {
		t.Errorf("%t, %v", ok, err)
	}
}

func TestStartReportsABrokenRingOnceAndEndsWithTheActivation(t *testing.T) {
	r := newRig(t, 8, 0)
	failed := make(chan error, 2)
	tasks := task.New(func(err error) { failed <- err })
	a := virtio.Activation{Memory: r.mem, Go: tasks.Go}
	if err := errors.Join(queue.Start(a, r.q, queue.Each(upper)), queue.Start(a, r.q, queue.Each(upper))); err != nil {
		t.Fatal(err)
	}
	r.SetAvailIdx(100)
	r.ForceKick()
	if err := <-failed; !errors.Is(err, queue.ErrBadRing) {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, queue.ErrBadRing) {
		t.Error(err)
	}
	if err := tasks.Stop(); err != nil {
		t.Error(err)
	}
	if len(failed) != 0 {
		t.Errorf("reported again: %v", <-failed)
	}
}
