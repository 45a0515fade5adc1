package virtiotest

import (
	"bytes"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
)

// Suite is what a conformance test must know about a device.
type Suite struct {
	// Traffic moves buffers through the live device and judges the outcome.
	// It leaves no chain with the device that a reset would not end.
	Traffic func(t testing.TB, d *Driver)
	// Hostile is the queue that gets rings no driver may make: one that
	// acts on a kick alone. Shape is a chain that would be good there: the
	// cases bend it.
	Hostile int
	Shape   func(d *Driver) []queuetest.Desc
	// Lives is how often the device is activated in a row; 0 means 20.
	Lives int
}

// ringFeatures are negotiated in all combinations that the device offers.
var ringFeatures = []virtio.Features{
	0,
	virtio.FeatureRingIndirectDesc,
	virtio.FeatureRingEventIdx,
	virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx,
}

// deviceBits are all features that are not the rings'.
const deviceBits = ^(virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx)

// all is every feature that is offered.
const all = ^virtio.Features(0)

// TestDevice puts devices that open makes through the life that guests give
// them. Every device is closed, and leaves nothing of its [Footprint].
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
		{"is reset when nothing runs", resetWhenIdle},
		{"closes while it runs", closesWhileRunning},
		{"closes when its data path is dead", closesWhenDead},
		{"takes no queue that was not enabled", nothingEnabled},
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

// TestBackend is TestDevice for a backend alone: as a device with queues of the
// given sizes and no configuration.
func TestBackend(t *testing.T, id virtio.DeviceID, sizes []uint16, open func(t testing.TB) virtio.Backend, s Suite) {
	TestDevice(t, func(t testing.TB) virtio.Device { return &bare{open(t), id, sizes} }, s)
}

// bare is a device that is nothing but its backend.
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

// After Reset the memory is the guest's own: kicks that come late find nobody
// who reads a ring.
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
		t.Error("guest memory changed after the reset")
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

// A driver may go on without any queue. Whether the device can is its choice,
// but then it says so and works for the next driver.
func nothingEnabled(t *testing.T, d *Driver, s Suite) {
	d.Negotiate(all)
	if got := d.Go(); got&^virtio.StatusNeedsReset != live {
		t.Errorf("status %#x", got)
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

// hostile makes the first chain of a live ring one that no device may accept,
// from one that it would.
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
	"readable behind writable": {0, func(d *Driver, r *queuetest.Ring, shape []queuetest.Desc) {
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
				t.Errorf("used.idx %d: the chain was accepted", got)
			}
			d.Reset()
			d.Start(all)
			s.Traffic(t, d)
			d.Reset()
		})
	}
}

// Reads and writes of the configuration, at its end and far beyond.
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
