package virtiopci_test

import (
	"errors"
	"slices"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/virtiopci"
)

func TestTheFunctionLooksLikeAModernVirtioDevice(t *testing.T) {
	for _, c := range []struct {
		id            virtio.DeviceID
		device, class uint64
	}{{virtio.NetID, 0x1041, 0x020000}, {virtio.RngID, 0x1044, 0x00ff00}, {virtio.SCSIID, 0x1048, 0x010000}} {
		dev := recorder()
		dev.Type = c.id
		m := newMachine(t, dev, false)
		for _, r := range []struct {
			name string
			off  uint64
			n    int
			want uint64
		}{
			{"vendor", 0, 2, 0x1af4},
			{"device", 2, 2, c.device},
			{"revision", 8, 1, 1},
			{"class", 8, 4, c.class<<8 | 1},
			{"interrupt pin", 0x3d, 1, 0},
			{"subsystem vendor", 0x2c, 2, 0x1af4},
			{"subsystem", 0x2e, 2, 0x40 + uint64(c.id)},
		} {
			if got := m.config(r.off, r.n); got != r.want {
				t.Errorf("%v: %s %#x, want %#x", c.id, r.name, got, r.want)
			}
		}
		var kinds []byte
		for k := range m.caps {
			kinds = append(kinds, k)
		}
		slices.Sort(kinds)
		if !slices.Equal(kinds, []byte{1, 2, 3, 4, 5, 0x11}) {
			t.Errorf("%v: capabilities %v", c.id, kinds)
		}
		if x := m.caps[0x11]; x.size != 3 {
			t.Errorf("%v: %d vectors, want queues + 1", c.id, x.size)
		}
		if got := m.caps[2].extra; got != 4 {
			t.Errorf("%v: notify_off_multiplier %d", c.id, got)
		}
	}
}

func TestRegionsDoNotOverlapAndFitTheBAR(t *testing.T) {
	for _, queues := range []int{1, 3, 400, 600, 1024} {
		dev := recorder()
		dev.Sizes = slices.Repeat([]uint16{8}, queues)
		m := newMachine(t, dev, false)
		x := m.caps[0x11]
		type span struct{ from, to uint64 }
		spans := []span{{x.off, x.off + 16*x.size}, {x.extra, x.extra + (x.size+63)/64*8}}
		for kind := byte(1); kind <= 4; kind++ {
			c := m.caps[kind]
			spans = append(spans, span{c.off, c.off + c.size})
		}
		m.writeConfig(0x10, 4, 0xffffffff)
		size := ^(m.config(0x10, 4)&^0xf)&0xffffffff + 1
		for i, a := range spans {
			if a.to > size {
				t.Errorf("%d queues: %#x..%#x beyond the BAR's %#x", queues, a.from, a.to, size)
			}
			for _, b := range spans[:i] {
				if a.from < b.to && b.from < a.to {
					t.Errorf("%d queues: %#x..%#x overlaps %#x..%#x", queues, a.from, a.to, b.from, b.to)
				}
			}
		}
	}
}

func TestADriverBringsTheDeviceUp(t *testing.T) {
	m := newMachine(t, recorder(), false)
	m.start()
	if got := m.read(0x14, 1); got != 15 {
		t.Fatalf("status %#x, want 0xf; log %q", got, m.lines)
	}
	a := m.dev.Activations()
	if len(a) != 1 || len(a[0].Queues) != 2 {
		t.Fatalf("activations %+v", a)
	}
	q := a[0].Queues[1]
	if q.Size != 64 || q.Desc != 0x5000 || q.Driver != 0x6000 || q.Device != 0x7000 {
		t.Errorf("queue 1 is %+v", q)
	}
	// Write queue registers after DRIVER_OK: nothing may change, and nothing may happen.
	for sel := range uint64(2) {
		m.write(0x16, 2, sel)
		var before, after [0x38]byte
		m.mmio.Read(m.base, before[:8])
		for off := uint64(0x18); off < 0x38; off += 2 {
			le.PutUint16(before[off:], uint16(m.read(off, 2)))
		}
		for _, r := range []struct{ off, n uint64 }{{0x18, 2}, {0x1c, 2}, {0x20, 4}, {0x24, 4}, {0x28, 8}, {0x30, 8}} {
			m.write(r.off, int(r.n), 0x10)
		}
		m.mmio.Read(m.base, after[:8])
		for off := uint64(0x18); off < 0x38; off += 2 {
			le.PutUint16(after[off:], uint16(m.read(off, 2)))
		}
		if before != after {
			t.Errorf("queue %d: % x, was % x", sel, after, before)
		}
	}
	if n := len(m.dev.Activations()); n != 1 {
		t.Errorf("%d activations", n)
	}
	m.write(0x14, 1, 0)
	if m.dev.Running() || m.read(0x14, 1) != 0 {
		t.Error("reset did not reset")
	}
}

func TestDoorbellsRingTheQueuesKick(t *testing.T) {
	m := newMachine(t, recorder(), false)
	m.start()
	notify := m.caps[2]
	for q := range uint64(2) {
		m.write(0x16, 2, q)
		off := notify.off + m.read(0x1e, 2)*notify.extra
		kick := m.tr.Frontend().Kick(int(q))
		kick.Drain()
		if !m.host.Ring(guestmem.GPA(m.base+off)) || !kick.Drain() {
			t.Errorf("queue %d: the doorbell does not kick", q)
		}
		m.write(off, 2, q)
		if !kick.Drain() {
			t.Errorf("queue %d: a VM exit did not kick", q)
		}
		if other := m.tr.Frontend().Kick(int(1 - q)); other.Pending() {
			t.Errorf("queue %d was kicked by queue %d's doorbell", 1-q, q)
		}
	}
}

func TestALateDoorbellThatFailsStillKicks(t *testing.T) {
	m := newMachine(t, recorder(), true)
	m.host.NoDoorbells = errors.New("no space for another device")
	for range 100 {
		m.write(m.caps[2].off, 2, 0)
		if !m.tr.Frontend().Kick(0).Drain() {
			t.Fatal("not kicked")
		}
	}
	if len(m.lines) != 1 {
		t.Errorf("log %q, want one line", m.lines)
	}
}

func TestInterruptsFollowVectorsAndMasks(t *testing.T) {
	m := newMachine(t, recorder(), false)
	m.enableMSIX()
	m.vectors(0, 1, 2)
	m.start()
	m.vectors(0, 1, 2)
	call0, call1 := m.tr.Frontend().Call(0), m.tr.Frontend().Call(1)

	call0.Signal()
	m.wantSent("queue 0", 0x41)
	call1.Signal()
	call0.Signal()
	m.wantSent("both", 0x41, 0x42)
	m.dev.Activations()[0].ConfigChanged()
	m.wantSent("configuration", 0x40)

	m.mask(1, true)
	call0.Signal()
	m.wantSent("masked")
	if got := m.pending(); got != 2 {
		t.Errorf("pending bits %#x, want 2", got)
	}
	m.mask(1, false)
	m.wantSent("unmasked", 0x41)
	if got := m.pending(); got != 0 {
		t.Errorf("pending bits %#x, want none", got)
	}

	m.writeConfig(m.caps[0x11].at+2, 2, 0xc000)
	call0.Signal()
	call1.Signal()
	m.wantSent("all masked")
	if got := m.pending(); got != 6 {
		t.Errorf("pending bits %#x, want 6", got)
	}
	m.writeConfig(m.caps[0x11].at+2, 2, 0x8000)
	m.wantSent("none masked", 0x41, 0x42)

	m.mask(2, true)
	m.write(m.caps[0x11].off+2*16+8, 4, 0x99)
	m.mask(2, false)
	call1.Signal()
	m.wantSent("a new message", 0x99)

	m.vectors(0, 0, 0)
	call0.Signal()
	call1.Signal()
	m.dev.Activations()[0].ConfigChanged()
	m.wantSent("all on vector 0", 0x40, 0x40, 0x40)

	m.vectors(0xffff, 0xffff, 1)
	call0.Signal()
	call1.Signal()
	m.wantSent("queue 0 without a vector", 0x41)
	m.vectors(0xffff, 1, 1)
	m.wantSent("and with one", 0x41)

	m.write(0x14, 1, 0)
	if _, _, connections := m.host.Live(); connections != 0 {
		t.Errorf("%d connections after reset", connections)
	}
	if len(m.lines) != 0 {
		t.Errorf("log %q", m.lines)
	}
}

func TestABadVectorReadsBackAsNone(t *testing.T) {
	m := newMachine(t, recorder(), false)
	m.enableMSIX()
	for v := range uint64(1 << 16) {
		want := uint64(0xffff)
		if v < 3 {
			want = v
		}
		m.write(0x10, 2, v)
		m.write(0x16, 2, v&1)
		m.write(0x1a, 2, v)
		if c, q := m.read(0x10, 2), m.read(0x1a, 2); c != want || q != want {
			t.Fatalf("vector %#x reads back %#x for the configuration and %#x for a queue", v, c, q)
		}
	}
	m.write(0x16, 2, 2)
	m.write(0x1a, 2, 0)
	if got := m.read(0x1a, 2); got != 0xffff {
		t.Errorf("queue 2, which does not exist, has vector %#x", got)
	}
	m.write(0x14, 1, 0)
	if got := m.read(0x10, 2); got != 0xffff {
		t.Errorf("configuration vector %#x after reset", got)
	}
}

func TestTheInterruptStatusTellsADriverThatPolls(t *testing.T) {
	m := newMachine(t, recorder(), false)
	m.start()
	isr := m.caps[3].off
	if got := m.read(isr, 1); got != 0 {
		t.Errorf("status %#x initially", got)
	}
	m.tr.Frontend().Call(1).Signal()
	m.dev.Activations()[0].ConfigChanged()
	if got := m.read(isr, 1); got != 3 {
		t.Errorf("status %#x, want 3", got)
	}
	if got := m.read(isr, 1); got != 0 {
		t.Errorf("status %#x after it was read", got)
	}
	// A polling driver must not consume the signals of a masked vector.
	m.vectors(0, 1, 2)
	m.tr.Frontend().Call(1).Signal()
	if got := m.read(isr, 1); got != 0 || m.pending() != 4 {
		t.Errorf("status %#x and pending bits %#x, want 0 and 4", got, m.pending())
	}
}

func TestAFailedNewReleasesEverything(t *testing.T) {
	mem, err := guestmem.New([]guestmem.Range{{GPA: 0, SizeBytes: 0x10000}})
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	host := &fakeHost{NoMSI: errors.New("no routes left")}
	dev := recorder()
	if _, err := virtiopci.New(dev, mem, host, virtiopci.Options{Name: "net0"}); !errors.Is(err, host.NoMSI) {
		t.Errorf("error %v", err)
	}
	host.NoMSI = nil
	dev.Sizes = []uint16{3}
	if _, err := virtiopci.New(dev, mem, host, virtiopci.Options{Name: "net0"}); err == nil {
		t.Error("a queue of size 3 was accepted")
	}
	for _, n := range []int{0, 1025} {
		dev.Sizes = slices.Repeat([]uint16{8}, n)
		if _, err := virtiopci.New(dev, mem, host, virtiopci.Options{Name: "net0"}); err == nil {
			t.Errorf("%d queues were accepted", n)
		}
	}
	if d, v, c := host.Live(); d+v+c != 0 || dev.Closes() != 0 {
		t.Errorf("%d doorbells, %d messages, %d connections left; device closed %d times", d, v, c, dev.Closes())
	}
}
