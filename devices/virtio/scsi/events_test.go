package scsi

import (
	"encoding/hex"
	"os"
	"testing"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/scsi/target"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// TestTheDriverIsNotifiedOfANewSize changes a disk's size while a driver runs.
func TestTheDriverIsNotifiedOfANewSize(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	grow := func(blocks int64) {
		t.Helper()
		if err := f.Truncate(blocks * 512); err != nil {
			t.Fatal(err)
		}
	}
	grow(100)
	tg, err := target.New([]target.Unit{
		{Store: target.NewFile(f), SizeBytes: 100 * 512, BlockSize: 512, Serial: "1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	backend := NewInProcess(tg)
	dev, err := New(Config{RequestQueues: 1, QueueSize: 16}, backend)
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.NewDriver(t, dev)
	rescan := func(n int) {
		t.Helper()
		if changed, err := backend.Rescan(); err != nil || len(changed) != n {
			t.Fatalf("changed %v, %v; want %d", changed, err, n)
		}
	}
	grow(200)
	rescan(1) // there is no driver to notify
	for _, features := range []virtio.Features{everything, everything &^ FeatureChange} {
		grow(100)
		rescan(1)
		d.Start(features)
		inquiry(t, d, requestQueue)
		offer := func() []byte {
			gpa, p := d.Buffer(eventBytes)
			clear(p)
			d.Rings[eventQueue].Add(queuetest.Desc{GPA: gpa, Len: eventBytes, Flags: queuetest.Write})
			return p
		}
		event := func(p []byte) {
			t.Helper()
			const want = "03000000" + "0100000000000000" + "2a090000"
			if !features.Has(FeatureChange) {
				if _, ok := d.Rings[eventQueue].Used(); ok {
					t.Fatal("received an event that was not negotiated")
				}
				return
			}
			u, err := d.Rings[eventQueue].WaitUsed(testenv.Patience)
			if err != nil {
				t.Fatal(err)
			}
			if u.Len != eventBytes || hex.EncodeToString(p) != want {
				t.Fatalf("%d bytes % x, want %s", u.Len, p, want)
			}
		}
		p := offer()
		rescan(0)
		grow(200)
		rescan(1)
		event(p)
		grow(300)
		rescan(1) // without a buffer
		p = offer()
		rescan(0)
		event(p)
		p = offer()
		grow(400)
		capacity := command(t, d, requestQueue, []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 8)
		if capacity[2] != 1 || capacity[3] != 0x8f {
			t.Errorf("READ CAPACITY: % x", capacity)
		}
		event(p) // the target has noticed the change itself
		p = offer()
		grow(500)
		inquiry(t, d, requestQueue)
		event(p) // some time after any request
		d.Reset()
	}
}

// TestATooSmallEventBufferFailsTheDevice uses a buffer that is too small.
func TestATooSmallEventBufferFailsTheDevice(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "disk")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	tg, err := target.New([]target.Unit{{Store: target.NewFile(f), SizeBytes: 1 << 20, BlockSize: 512, Serial: "1"}})
	if err != nil {
		t.Fatal(err)
	}
	backend := NewInProcess(tg)
	dev, err := New(Config{RequestQueues: 1, QueueSize: 16}, backend)
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.NewDriver(t, dev)
	d.Start(everything)
	gpa, _ := d.Buffer(eventBytes - 1)
	d.Rings[eventQueue].Add(queuetest.Desc{GPA: gpa, Len: eventBytes - 1, Flags: queuetest.Write})
	for _, size := range []int64{2 << 20, 3 << 20} {
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, err := backend.Rescan(); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.WaitNeedsReset(); err != nil {
		t.Error(err)
	}
	d.Reset()
	d.Start(everything)
	traffic(t, d)
}
