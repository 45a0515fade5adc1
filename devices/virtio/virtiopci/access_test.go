package virtiopci_test

import (
	"testing"
)

func TestTheConfigurationWindowReachesTheBAROnly(t *testing.T) {
	m := newMachine(t, recorder(), false)
	m.writeConfig(4, 2, 0) // without memory decoding
	w := m.caps[5].at
	access := func(bar, off, length uint64) {
		m.writeConfig(w+4, 1, bar)
		m.writeConfig(w+8, 4, off)
		m.writeConfig(w+12, 4, length)
	}
	for _, c := range []struct {
		name             string
		bar, off, length uint64
		n                int
		want             uint64
	}{
		{"num_queues", 0, 0x12, 2, 2, 2},
		{"queue_size", 0, 0x18, 2, 2, 256},
		{"device configuration", 0, m.caps[4].off, 4, 4, 0x04030201},
		{"one byte of it", 0, m.caps[4].off + 2, 1, 1, 3},
		{"another BAR", 1, 0x12, 2, 2, 0xffff},
		{"BAR 255", 255, 0x12, 2, 2, 0xffff},
		{"length 0", 0, 0x12, 0, 2, 0xffff},
		{"length 3", 0, 0x12, 3, 2, 0xffff},
		{"length 8", 0, 0x20, 8, 4, 0xffffffff},
		{"length 4 GiB - 1", 0, 0, 0xffffffff, 4, 0xffffffff},
		{"misaligned", 0, 0x13, 2, 2, 0xffff},
		{"the last dword", 0, 0x3ffc, 4, 4, 0xffffffff},
		{"the first beyond", 0, 0x4000, 4, 4, 0xffffffff},
		{"far beyond", 0, 0xfffffffc, 4, 4, 0xffffffff},
	} {
		access(c.bar, c.off, c.length)
		if got := m.config(w+16, c.n); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	access(0, 0x14, 1)
	m.writeConfig(w+16, 1, 1)
	if got := m.config(w+16, 1); got != 1 {
		t.Errorf("status %#x after writing 1 through the window", got)
	}
	access(3, 0x14, 1)
	m.writeConfig(w+16, 1, 0)
	access(0, 0x14, 1)
	if got := m.config(w+16, 1); got != 1 {
		t.Errorf("status %#x after a write to another BAR", got)
	}
}

// Every offset, width and value of the BAR, from reset and from DRIVER_OK: only accesses that the
// specification defines have an effect.
func TestEveryAccessToTheBARIsAnsweredOrIgnored(t *testing.T) {
	defined := map[[2]uint64]bool{}
	for off, n := range map[uint64]uint64{0: 4, 4: 4, 8: 4, 12: 4, 0x10: 2, 0x12: 2, 0x14: 1, 0x15: 1, 0x16: 2, 0x18: 2, 0x1a: 2, 0x1c: 2, 0x1e: 2, 0x20: 4, 0x24: 4, 0x28: 4, 0x2c: 4, 0x30: 4, 0x34: 4} {
		defined[[2]uint64{off, n}] = true
	}
	for _, live := range []bool{false, true} {
		m := newMachine(t, recorder(), true)
		for off := uint64(0); off < 0x4000; off++ {
			for _, n := range []int{1, 2, 4, 8} {
				if live && m.read(0x14, 1) != 15 {
					m.start()
				}
				ones := ^uint64(0) >> (64 - 8*n)
				got := m.read(off, n)
				if off < 0x38 && n < 8 && !defined[[2]uint64{off, uint64(n)}] && got != ones {
					t.Errorf("%d bytes at %#x read %#x, want ones", n, off, got)
				}
				if off >= 0x38 && off+uint64(n) <= 0x40 && got != ones {
					t.Errorf("%d bytes at %#x, between regions, read %#x", n, off, got)
				}
				m.write(off, n, 0)
				m.write(off, n, ^uint64(0))
			}
		}
		m.start()
		if got := m.read(0x14, 1); got != 15 {
			t.Errorf("status %#x after all accesses: the device is unusable", got)
		}
	}
}

func TestEveryQueueSelectAndRegisterAndWidth(t *testing.T) {
	m := newMachine(t, recorder(), true)
	for sel := range uint64(1 << 16) {
		m.write(0x16, 2, sel)
		if sel > 4 && sel%97 != 0 && sel < 0xfff0 {
			// All selectors are read. Those near the limits and a sample of the rest are also
			// written in every width.
			if got := m.read(0x18, 2); got != 0 {
				t.Fatalf("queue %#x has size %d", sel, got)
			}
			continue
		}
		for off := uint64(0x16); off < 0x38; off++ {
			for _, n := range []int{1, 2, 4, 8} {
				if off == 0x16 && n == 2 {
					continue
				}
				m.write(off, n, ^uint64(0))
				m.read(off, n)
			}
		}
		for off, want := range map[uint64]uint64{0x16: sel, 0x18: 0, 0x1a: 0xffff, 0x1c: 0, 0x1e: 0} {
			if got := m.read(off, 2); sel > 1 && got != want {
				t.Fatalf("queue %#x: register %#x reads %#x, want %#x", sel, off, got, want)
			}
		}
	}
}
