package virtiotest

import (
	"bytes"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
)

// Suite describes a device for a conformance test.
type Suite struct {
	// Traffic moves buffers through the live device and checks the result. Any chain that the
	// device still holds afterwards must end with a reset.
	Traffic func(t testing.TB, d *Driver)
	// Hostile is the queue on which the cases break the rules for drivers. It must be a queue for
	// which a kick suffices to make the device serve it. Shape returns a valid chain for it, which
	// the cases modify.
	Hostile int
	Shape   func(d *Driver) []queuetest.Desc
	// Lives is the number of activations in a row; 0 means 20.
	Lives int
}

// ringFeatures are all combinations of ring features. A device gets those that it offers.
var ringFeatures = []virtio.Features{
	0,
	virtio.FeatureRingIndirectDesc,
	virtio.FeatureRingEventIdx,
	virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx,
}

// deviceBits are all features except the ring features.
const deviceBits = ^(virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx)

// all requests every feature that the device offers.
const all = ^virtio.Features(0)

// TestDevice creates devices with open and runs each through a part of the lifecycle, as guests
// cause it. It closes every device, which must leave nothing of its [Footprint] behind.
func TestDevice(t *testing.T, open func(t testing.TB) virtio.Device, s Suite) {
	if s.Lives == 0 {
		s.Lives = 20
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T, d *Driver, s Suite)
	}{
		{"moves buffers under all ring features", movesBuffers},
		{"offers what it accepts", offersWhatItAccepts},
		{"lives again after reset", livesAgain},
		{"is silent after reset", silentAfterReset},
		{"can be reset when nothing runs", resetWhenIdle},
		{"closes while it runs", closesWhileRunning},
		{"closes when its data path has failed", closesWhenDead},
		{"uses no queue that was not enabled", nothingEnabled},
		{"survives rings at bad addresses", badAddresses},
		{"survives hostile chains", hostileChains},
		{"has a configuration of any size", configOfAnySize},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := TakeFootprint(t)
			d := NewDriver(t, open(t))
			c.run(t, d, s)
			d.Close()
			before.Holds(t)
		})
	}
	t.Run("survives a fault in each goroutine", func(t *testing.T) { faultInEach(t, open, s) })
}

// TestBackend is TestDevice for a backend alone: a device with queues of the given sizes and no
// configuration.
func TestBackend(t *testing.T, id virtio.DeviceID, sizes []uint16, open func(t testing.TB) virtio.Backend, s Suite) {
	TestDevice(t, func(t testing.TB) virtio.Device { return &bare{open(t), id, sizes} }, s)
}

// bare is a device that consists only of its backend.
type bare struct {
	virtio.Backend
	id    virtio.DeviceID
	sizes []uint16
}

func (b *bare) ID() virtio.DeviceID                { return b.id }
func (b *bare) QueueSizes() []uint16               { return b.sizes }
func (b *bare) ReadConfig([]byte, uint32)          {}
func (b *bare) WriteConfig([]byte, uint32)         {}
func (b *bare) InKernel(int) bool                  { return b.Backend.InKernel() }
func (b *bare) Activate(a virtio.Activation) error { return b.Start(a) }
func (b *bare) Reset() error                       { return b.Stop() }

func movesBuffers(t *testing.T, d *Driver, s Suite) {
	for _, f := range ringFeatures {
		d.Start(deviceBits | f)
		s.Traffic(t, d)
		d.Reset()
	}
}

func offersWhatItAccepts(t *testing.T, d *Driver, s Suite) {
	d.Start(all)
	s.Traffic(t, d)
	d.Reset()
	d.Start(0)
	d.Reset()
}

func livesAgain(t *testing.T, d *Driver, s Suite) {
	d.Start(all)
	s.Traffic(t, d)
	before := TakeFootprint(t)
	for i := range s.Lives {
		d.Reset()
		d.Start(all)
		if i%10 == 0 {
			s.Traffic(t, d)
		}
	}
	s.Traffic(t, d)
	before.Holds(t)
	before.HoldsMemory(t)
}

// After Reset the memory belongs to the guest: late kicks must not make the device use a ring.
func silentAfterReset(t *testing.T, d *Driver, s Suite) {
	d.Start(all)
	s.Traffic(t, d)
	rings := d.Rings
	d.Reset()
	for _, r := range rings {
		r.SetAvailIdx(0x1234)
		r.SetDesc(0, queuetest.Desc{GPA: ringBase, Len: 0x1000, Flags: queuetest.Write})
	}
	w, err := d.Memory.Window(0, ramSize)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(w)
	for _, r := range rings {
		r.ForceKick()
	}
	d.Frontend.Reset()
	if !bytes.Equal(before, w) {
		t.Error("the device wrote to guest memory after the reset")
	}
	d.Start(all)
	s.Traffic(t, d)
}

func resetWhenIdle(t *testing.T, d *Driver, s Suite) {
	for range 3 {
		d.Reset()
	}
	d.Negotiate(all)
	d.Reset()
	d.Start(all)
	d.Reset()
	d.Reset()
	d.Start(all)
	s.Traffic(t, d)
}

func closesWhileRunning(t *testing.T, d *Driver, s Suite) {
	d.Start(all)
	s.Traffic(t, d)
	d.Close()
}

func closesWhenDead(t *testing.T, d *Driver, s Suite) {
	d.Start(all)
	r := d.Rings[s.Hostile]
	r.SetAvailIdx(r.Queue().Size + 1)
	r.ForceKick()
	if err := d.WaitNeedsReset(); err != nil {
		t.Error(err)
	}
	d.Close()
}

// A driver may set DRIVER_OK without enabling a queue. The device may refuse that, but it must then
// report NEEDS_RESET and work for the next driver.
func nothingEnabled(t *testing.T, d *Driver, s Suite) {
	d.Negotiate(all)
	if got := d.Go(); got&^virtio.StatusNeedsReset != live {
		t.Errorf("status %#x without any queue", got)
	}
	d.Reset()
	d.Start(all)
	s.Traffic(t, d)
}

func badAddresses(t *testing.T, d *Driver, s Suite) {
	for _, gpa := range []guestmem.GPA{ramSize - 16, ramSize, 1 << 40, ^guestmem.GPA(15)} {
		d.Negotiate(all)
		d.SetUp()
		q := d.Rings[s.Hostile].Queue()
		q.Desc = gpa
		d.Program(q)
		if got, want := d.Go(), live|virtio.StatusNeedsReset; got != want {
			t.Errorf("ring at %#x: status %#x, want %#x", gpa, got, want)
		}
		d.Reset()
		d.Start(all)
		s.Traffic(t, d)
		d.Reset()
	}
}

// hostile are ways to turn the valid first chain of a live ring into one that devices must reject.
var hostile = map[string]struct {
	needs   virtio.Features
	breakIt func(d *Driver, r *queuetest.Ring, shape []queuetest.Desc)
}{
	"available index jumps": {0, func(d *Driver, r *queuetest.Ring, _ []queuetest.Desc) {
		r.SetAvailIdx(r.Queue().Size + 1)
	}},
	"head out of range": {0, func(d *Driver, r *queuetest.Ring, _ []queuetest.Desc) {
		r.SetAvail(0, r.Queue().Size)
		r.SetAvailIdx(1)
	}},
	"next out of range": {0, func(d *Driver, r *queuetest.Ring, shape []queuetest.Desc) {
		shape[0].Flags, shape[0].Next = shape[0].Flags|queuetest.Next, r.Queue().Size
		r.SetDesc(0, shape[0])
		r.SetAvailIdx(1)
	}},
	"loop": {0, func(d *Driver, r *queuetest.Ring, shape []queuetest.Desc) {
		shape[0].Flags |= queuetest.Next
		r.SetDesc(0, shape[0])
		r.SetAvailIdx(1)
	}},
	"buffer outside RAM": {0, func(d *Driver, r *queuetest.Ring, shape []queuetest.Desc) {
		shape[0].GPA = 1 << 40
		r.Add(shape...)
	}},
	"readable after writable": {0, func(d *Driver, r *queuetest.Ring, shape []queuetest.Desc) {
		gpa, _ := d.Buffer(64)
		r.Add(queuetest.Desc{GPA: gpa, Len: 64, Flags: queuetest.Write}, queuetest.Desc{GPA: gpa, Len: 64})
	}},
	"indirect in indirect": {virtio.FeatureRingIndirectDesc, func(d *Driver, r *queuetest.Ring, _ []queuetest.Desc) {
		gpa, _ := d.Buffer(64)
		r.AddIndirect(gpa, queuetest.Desc{GPA: gpa, Len: 64, Flags: queuetest.Indirect})
	}},
	"indirect of odd length": {virtio.FeatureRingIndirectDesc, func(d *Driver, r *queuetest.Ring, _ []queuetest.Desc) {
		gpa, _ := d.Buffer(64)
		r.Add(queuetest.Desc{GPA: gpa, Len: 40, Flags: queuetest.Indirect})
	}},
	"indirect outside RAM": {virtio.FeatureRingIndirectDesc, func(d *Driver, r *queuetest.Ring, _ []queuetest.Desc) {
		r.Add(queuetest.Desc{GPA: 1 << 40, Len: 64, Flags: queuetest.Indirect})
	}},
}

func hostileChains(t *testing.T, d *Driver, s Suite) {
	for name, c := range hostile {
		t.Run(name, func(t *testing.T) {
			d.Start(all)
			if !d.Features.Has(c.needs) {
				d.Reset()
				return
			}
			r := d.Rings[s.Hostile]
			c.breakIt(d, r, s.Shape(d))
			r.ForceKick()
			if err := d.WaitNeedsReset(); err != nil {
				t.Error(err)
			}
			if got := r.UsedIdx(); got != 0 {
				t.Errorf("used.idx %d: the invalid chain was accepted", got)
			}
			d.Reset()
			d.Start(all)
			s.Traffic(t, d)
			d.Reset()
		})
	}
}

// configOfAnySize reads and writes the configuration, at its end and far beyond.
func configOfAnySize(t *testing.T, d *Driver, s Suite) {
	for _, off := range []uint32{0, 1, 3, 8, 36, 60, 255, 0x7ff, 0xffff, 1 << 31, ^uint32(0) - 7, ^uint32(0)} {
		for _, n := range []int{1, 2, 4, 8, 64} {
			p, again := bytes.Repeat([]byte{0xa5}, n), bytes.Repeat([]byte{0x5a}, n)
			d.ReadConfig(p, off)
			d.WriteConfig(bytes.Repeat([]byte{0xff}, n), off)
			d.ReadConfig(again, off)
			if off > 0xffff && (!bytes.Equal(p, make([]byte, n)) || !bytes.Equal(again, p)) {
				t.Errorf("%d bytes at %#x: % x, then % x, want zeroes", n, off, p, again)
			}
		}
	}
	d.Start(all)
	s.Traffic(t, d)
}
