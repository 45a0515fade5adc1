package virtio_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// model is a second, plain implementation of virtio 1.2 §2.1 and §3.1: what a driver may do in
// which state, and what it then reads.
type model struct {
	offered     virtio.Features
	max         []uint16
	refuses     bool
	status      uint32
	deviceSel   uint32
	driverSel   uint32
	driver      [2]uint32
	queueSel    uint32
	queue       []map[virtio.Register]uint32
	activations int
}

func (m *model) reset() {
	m.status, m.deviceSel, m.driverSel, m.driver, m.queueSel = 0, 0, 0, [2]uint32{}, 0
	m.queue = nil
	for _, max := range m.max {
		m.queue = append(m.queue, map[virtio.Register]uint32{virtio.QueueSize: uint32(max), virtio.QueueSizeMax: uint32(max)})
	}
}

func (m *model) write(r virtio.Register, v uint32) {
	stuck := m.status&(64|128) != 0
	switch r {
	case virtio.DeviceFeatureSelect:
		m.deviceSel = v
	case virtio.DriverFeatureSelect:
		m.driverSel = v
	case virtio.QueueSelect:
		m.queueSel = v & 0xffff
	case virtio.DriverFeature:
		if !stuck && (m.status == 3) && m.driverSel < 2 {
			m.driver[m.driverSel] = v
		}
	case virtio.DeviceStatus:
		m.writeStatus(v & 0xff)
	case virtio.DeviceFeature, virtio.NumQueues, virtio.ConfigGeneration, virtio.QueueSizeMax:
	default:
		if m.status != 11 || m.queueSel >= uint32(len(m.queue)) {
			return
		}
		if r == virtio.QueueSize {
			v &= 0xffff
		}
		if r == virtio.QueueEnable && v != 1 {
			v = 0
		}
		m.queue[m.queueSel][r] = v
	}
}

func (m *model) writeStatus(v uint32) {
	if v == 0 {
		m.reset()
		return
	}
	own := m.status &^ 64
	if own&v != own {
		return
	}
	if v&128 != 0 {
		m.status |= 128
		return
	}
	if m.status&64 != 0 {
		return
	}
	for _, c := range []struct{ from, bit uint32 }{{0, 1}, {1, 2}, {3, 8}, {11, 4}} {
		if v&c.bit == 0 || m.status != c.from {
			continue
		}
		if c.bit == 8 {
			got := virtio.Features(m.driver[0]) | virtio.Features(m.driver[1])<<32
			if got&^m.offered != 0 || got>>32&1 == 0 {
				return
			}
		}
		m.status |= c.bit
		if c.bit == 4 && !m.activate() {
			m.status |= 64
		}
	}
}

func (m *model) activate() bool {
	for i, q := range m.queue {
		if q[virtio.QueueEnable] == 1 && !(q[virtio.QueueSize] <= uint32(m.max[i]) && goodRing(modelQueue(q))) {
			return false
		}
	}
	// The walk enables at most one queue's valid ring at these addresses; two queues in the same
	// memory are refused.
	used := map[uint64]bool{}
	for _, q := range m.queue {
		if q[virtio.QueueEnable] != 1 {
			continue
		}
		mq := modelQueue(q)
		for _, r := range mq.Ranges() {
			for b := uint64(r.GPA); b < uint64(r.GPA)+r.SizeBytes; b++ {
				if used[b] {
					return false
				}
				used[b] = true
			}
		}
	}
	m.activations++
	return !m.refuses
}

func modelQueue(q map[virtio.Register]uint32) virtio.Queue {
	at := func(low virtio.Register) uint64 { return uint64(q[low]) | uint64(q[low+1])<<32 }
	var out virtio.Queue
	out.Size = uint16(q[virtio.QueueSize])
	for i, low := range []virtio.Register{virtio.QueueDescLow, virtio.QueueDriverLow, virtio.QueueDeviceLow} {
		switch i {
		case 0:
			out.Desc += guestmem.GPA(at(low))
		case 1:
			out.Driver += guestmem.GPA(at(low))
		case 2:
			out.Device += guestmem.GPA(at(low))
		}
	}
	return out
}

func (m *model) read(r virtio.Register) uint32 {
	sel := func(lo, hi, sel uint32) uint32 { return []uint32{lo, hi, 0}[min(sel, 2)] }
	switch r {
	case virtio.DeviceFeatureSelect:
		return m.deviceSel
	case virtio.DeviceFeature:
		return sel(uint32(m.offered), uint32(m.offered>>32), m.deviceSel)
	case virtio.DriverFeatureSelect:
		return m.driverSel
	case virtio.DriverFeature:
		return sel(m.driver[0], m.driver[1], m.driverSel)
	case virtio.NumQueues:
		return uint32(len(m.max))
	case virtio.DeviceStatus:
		return m.status
	case virtio.ConfigGeneration:
		return 0
	case virtio.QueueSelect:
		return m.queueSel
	}
	if m.queueSel >= uint32(len(m.queue)) {
		return 0
	}
	return m.queue[m.queueSel][r]
}

// A driver that writes random registers in random order, mostly close to the correct order.
func TestRandomRegisterWritesAgreeWithTheModel(t *testing.T) {
	const writes = 200_000
	rnd := rand.New(rand.NewPCG(3, 4))
	b := newBench(t, recorder())
	m := &model{offered: b.dev.Offers | virtio.FeatureVersion1, max: b.dev.Sizes}
	m.reset()
	states := map[uint32]int{}
	all := int(virtio.QueueDeviceHigh) + 1
	for i := range writes {
		r := virtio.Register(rnd.IntN(all))
		v := rnd.Uint32() >> rnd.IntN(32)
		// Pure chance would hardly ever reach DRIVER_OK.
		switch rnd.IntN(3) {
		case 0:
			r = virtio.DeviceStatus
			v = []uint32{0, 1, 3, 11, 15, 1, 3, 11, 15, 3, 11, 11, 11, 11, 11, 15, 139, 75, 7, 9, 255}[rnd.IntN(21)]
		case 1:
			switch r {
			case virtio.DriverFeature:
				v = []uint32{0, 1, 1, 1, 1 << 5, 1 << 29}[rnd.IntN(6)]
			case virtio.DriverFeatureSelect, virtio.DeviceFeatureSelect:
				v = []uint32{0, 1, 1, 2}[rnd.IntN(4)]
			case virtio.QueueSelect:
				v = uint32(rnd.IntN(4))
			case virtio.QueueSize:
				v = 1 << rnd.IntN(9)
			case virtio.QueueEnable:
				v = uint32(rnd.IntN(3))
			case virtio.QueueDescHigh, virtio.QueueDriverHigh, virtio.QueueDeviceHigh:
				v = 0
			case virtio.QueueDescLow, virtio.QueueDriverLow, virtio.QueueDeviceLow:
				v = uint32(rnd.IntN(0x38)) << 12
			}
		case 2:
			if m.status&128 != 0 {
				r, v = virtio.DeviceStatus, 0
			}
		}
		b.dev.Refuses = nil
		if m.refuses = i%8 == 0; m.refuses {
			b.dev.Refuses = errors.New("refused")
		}
		b.Write(r, v)
		m.write(r, v)
		states[m.status]++
		if got := len(b.dev.Activations()) != m.activations; got {
			t.Fatalf("write %d, %v=%#x: %d activations, want %d", i, r, v, len(b.dev.Activations()), m.activations)
		}
		for r := range virtio.Register(all) {
			if got, want := b.Read(r), m.read(r); got != want {
				t.Fatalf("write %d, %v=%#x: then %v reads %#x, want %#x", i, r, v, r, got, want)
			}
		}
	}
	for _, s := range []uint32{0, 1, 3, 11, 15, 79, 128 + 11, 128 + 15} {
		if states[s] == 0 {
			t.Errorf("status %#x was never reached: the walk is too short", s)
		}
	}
	t.Logf("%d activations, states %v", m.activations, states)
}
