package virtio_test

import (
	"fmt"
	"sync"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/virtiotest"
)

const (
	ack, driver, featuresOK, driverOK = virtio.StatusAcknowledge, virtio.StatusDriver, virtio.StatusFeaturesOK, virtio.StatusDriverOK
	needsReset, failed                = virtio.StatusNeedsReset, virtio.StatusFailed

	ready = ack | driver | featuresOK
	live  = ready | driverOK
)

// ram is three regions, two of them adjacent, with a hole, so that "inside RAM" and "inside one
// region" differ from "below the end".
var ram = []guestmem.Range{{GPA: 0, SizeBytes: 0x10000}, {GPA: 0x20000, SizeBytes: 0x10000}, {GPA: 0x30000, SizeBytes: 0x4000}}

func memory(t testing.TB) *guestmem.Memory {
	mem, err := guestmem.New(ram)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return mem
}

// bench is a frontend over a recorder, with its log and its configuration interrupts.
type bench struct {
	*virtio.Frontend
	dev *virtiotest.Recorder

	mu     sync.Mutex
	lines  []string
	config int
}

func newBench(t testing.TB, dev *virtiotest.Recorder) *bench {
	b := &bench{dev: dev}
	f, err := virtio.NewFrontend(dev, memory(t), virtio.Options{
		Name: "test0",
		Logf: func(format string, args ...any) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.lines = append(b.lines, fmt.Sprintf(format, args...))
		},
		OnConfig: func() { b.mu.Lock(); b.config++; b.mu.Unlock() },
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Frontend = f
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func recorder() *virtiotest.Recorder {
	return &virtiotest.Recorder{Type: virtio.NetID, Offers: virtio.FeatureRingEventIdx | 1<<5, Sizes: []uint16{256, 64, 64}, Config: make([]byte, 12)}
}

func (b *bench) status(s virtio.Status) virtio.Status {
	b.Write(virtio.DeviceStatus, uint32(s))
	return virtio.Status(b.Read(virtio.DeviceStatus))
}

// negotiate goes from reset to FEATURES_OK with the given features.
func (b *bench) negotiate(features virtio.Features) virtio.Status {
	b.status(0)
	b.status(ack)
	b.status(ack | driver)
	for sel := range uint32(2) {
		b.Write(virtio.DriverFeatureSelect, sel)
		b.Write(virtio.DriverFeature, uint32(features>>(32*sel)))
	}
	return b.status(ready)
}

func (b *bench) enable(q virtio.Queue) {
	b.Write(virtio.QueueSelect, uint32(q.Index))
	b.Write(virtio.QueueSize, uint32(q.Size))
	for r, gpa := range map[virtio.Register]guestmem.GPA{virtio.QueueDescLow: q.Desc, virtio.QueueDriverLow: q.Driver, virtio.QueueDeviceLow: q.Device} {
		b.Write(r, uint32(gpa))
		b.Write(r+1, uint32(gpa>>32))
	}
	b.Write(virtio.QueueEnable, 1)
}

func goodQueue(i uint16) virtio.Queue {
	base := guestmem.GPA(0x20000 + 0x4000*int(i))
	return virtio.Queue{Index: i, Size: 64, Desc: base, Driver: base + 0x1000, Device: base + 0x2000}
}
