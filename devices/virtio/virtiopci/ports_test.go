package virtiopci_test

import (
	"slices"
	"testing"

	"minivmm/devices/guestmem"
)

// withPorts returns a transport whose queues have ports.
func withPorts(t testing.TB, queues int) *machine {
	dev := recorder()
	dev.Sizes = slices.Repeat([]uint16{64}, queues)
	return newMachine(t, dev, true)
}

func TestPortsComeFirstAndHoldEveryQueue(t *testing.T) {
	for _, c := range []struct {
		queues int
		size   uint64 // of the BAR; 0: no BAR
	}{{1, 4}, {2, 4}, {3, 8}, {4, 8}, {66, 256}, {128, 256}, {129, 0}, {1024, 0}} {
		m := withPorts(t, c.queues)
		m.writeConfig(0x14, 4, 0xffffffff)
		size := m.config(0x14, 4)
		if c.size == 0 {
			if size != 0 || len(m.notify) != 1 || m.notify[0].bar != 0 {
				t.Errorf("%d queues: BAR 1 is %#x, capabilities %+v; want memory only", c.queues, size, m.notify)
			}
			continue
		}
		if want := (^(c.size - 1) | 1) & 0xffffffff; size != want {
			t.Errorf("%d queues: sizing shows %#x, want %#x", c.queues, size, want)
		}
		if len(m.notify) != 2 {
			t.Fatalf("%d queues: notify capabilities %+v", c.queues, m.notify)
		}
		ports, memory := m.notify[0], m.notify[1]
		// virtio 1.2 §4.1.4.4: space for queue_notify_off * notify_off_multiplier + 2.
		if ports.bar != 1 || ports.off != 0 || ports.extra != 2 || ports.size > c.size || ports.size < 2*uint64(c.queues) {
			t.Errorf("%d queues: ports %+v in a BAR of %d", c.queues, ports, c.size)
		}
		if memory.bar != 0 || memory.extra != 4 {
			t.Errorf("%d queues: memory %+v", c.queues, memory)
		}
	}
	plain := newMachine(t, recorder(), false)
	if got := plain.config(0x14, 4); got != 0 || len(plain.notify) != 1 {
		t.Errorf("without ports: BAR 1 is %#x, notify capabilities %+v", got, plain.notify)
	}
}

// Both notify addresses of a queue kick it: by a doorbell, or by a VM exit if there is no doorbell.
// The doorbell in memory is attached at its first exit.
func TestEitherNotifyAddressKicks(t *testing.T) {
	m := withPorts(t, 3)
	for q := range uint64(3) {
		m.write(0x16, 2, q)
		notifyOff := m.read(0x1e, 2)
		port := m.notify[0].off + notifyOff*m.notify[0].extra
		memory := m.notify[1].off + notifyOff*m.notify[1].extra
		kick := m.tr.Frontend().Kick(int(q))
		for _, step := range []struct {
			name          string
			do            func() bool
			answers, kick bool
		}{
			{"the port's doorbell", func() bool { return m.host.RingPort(uint16(m.port + port)) }, true, true},
			{"an exit for the port", func() bool { m.out(port, 2, q); return true }, true, true},
			{"the port's doorbell after an exit", func() bool { return m.host.RingPort(uint16(m.port + port)) }, true, true},
			{"memory's doorbell", func() bool { return m.host.Ring(guestmem.GPA(m.base + memory)) }, false, false},
			{"an exit for memory", func() bool { m.write(memory, 2, q); return true }, true, true},
			{"memory's doorbell after an exit", func() bool { return m.host.Ring(guestmem.GPA(m.base + memory)) }, true, true},
		} {
			if got := step.do(); got != step.answers {
				t.Errorf("queue %d: %s answers: %t", q, step.name, got)
			}
			if got := kick.Drain(); got != step.kick {
				t.Errorf("queue %d: %s kicks: %t", q, step.name, got)
			}
			for other := range 3 {
				if m.tr.Frontend().Kick(other).Drain() {
					t.Errorf("%s of queue %d kicks queue %d", step.name, q, other)
				}
			}
		}
	}
}

func TestPortsAreSilentWhileTheyAreNotDecoded(t *testing.T) {
	m := withPorts(t, 2)
	m.writeConfig(4, 2, 6)
	m.out(0, 2, 0)
	if m.tr.Frontend().Kick(0).Drain() {
		t.Error("a port that the function does not decode kicked a queue")
	}
	m.writeConfig(0x14, 4, 0x1801)
	m.writeConfig(4, 2, 7)
	m.out(2, 2, 1)
	if got := m.config(0x14, 4); got != m.port|1 || !m.tr.Frontend().Kick(1).Drain() {
		t.Errorf("after an attempt to move them, the ports are at %#x, want %#x", got, m.port|1)
	}
}

// Every port, width and value, and a driver that reaches its ports only through the window.
func TestEveryAccessToThePorts(t *testing.T) {
	m := withPorts(t, 3)
	for off := range uint64(8) {
		for _, n := range []int{1, 2, 4, 8} {
			if off+uint64(n) > 8 {
				continue
			}
			p := make([]byte, n)
			if m.io.Read(m.port+off, p); slices.ContainsFunc(p, func(b byte) bool { return b != 0xff }) {
				t.Errorf("%d bytes at port %d read % x, want ones", n, off, p)
			}
			for _, v := range []uint64{0, ^uint64(0)} {
				m.out(off, n, v)
				for q := range 3 {
					kicked, want := m.tr.Frontend().Kick(q).Drain(), uint64(q) == off/2 && off+uint64(n) <= 6
					if kicked != want {
						t.Errorf("%d bytes of %#x to port %d: queue %d kicked: %t", n, v, off, q, kicked)
					}
				}
			}
		}
	}
	w := m.caps[5].at
	for _, c := range []struct {
		bar, off uint64
		want     bool
	}{{1, 4, true}, {1, 6, false}, {1, 0xfffffffc, false}, {2, 4, false}, {0, m.notify[1].off + 8, true}} {
		m.writeConfig(w+4, 1, c.bar)
		m.writeConfig(w+8, 4, c.off)
		m.writeConfig(w+12, 4, 2)
		m.writeConfig(w+16, 2, 2)
		if got := m.tr.Frontend().Kick(2).Drain(); got != c.want {
			t.Errorf("a write through the window to BAR %d at %#x: kicked %t", c.bar, c.off, got)
		}
	}
}
