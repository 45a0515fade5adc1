package virtiopci_test

import (
	"bytes"
	"crypto/rand"
	"sync"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/rng"
	"minivmm/internal/testbed/testenv"
)

// A real device behind the transport: from doorbell to message.
func TestARequestGoesFromDoorbellToMessage(t *testing.T) {
	m := newMachine(t, rng.New(rand.Reader), true)
	m.enableMSIX()
	m.write(0x14, 1, 0)
	m.write(0x14, 1, 3)
	m.write(0x08, 4, 1)
	m.write(0x0c, 4, 1)
	m.write(0x14, 1, 11)
	m.write(0x10, 2, 0)
	layout, bufs := queuetest.Layout(0x1000, 32)
	m.write(0x18, 2, uint64(layout.Size))
	m.write(0x1a, 2, 1)
	m.write(0x20, 8, uint64(layout.Desc))
	m.write(0x28, 8, uint64(layout.Driver))
	m.write(0x30, 8, uint64(layout.Device))
	m.write(0x1c, 2, 1)
	ring := queuetest.New(t, m.mem, layout, 0)
	m.write(0x14, 1, 15)
	for i := range 100 {
		w, err := m.mem.Window(bufs, 64)
		if err != nil {
			t.Fatal(err)
		}
		clear(w)
		ring.Add(queuetest.Desc{GPA: bufs, Len: 64, Flags: queuetest.Write})
		// Alternate between port and memory, whose doorbell is attached at the first exit.
		bell, exit := func() bool { return m.host.RingPort(uint16(m.port)) }, func() { m.out(0, 2, 0) }
		if i%2 == 1 {
			gpa := guestmem.GPA(m.base + m.caps[2].off)
			bell, exit = func() bool { return m.host.Ring(gpa) }, func() { m.write(m.caps[2].off, 2, 0) }
		}
		if !bell() {
			if i != 1 {
				t.Fatalf("request %d: no doorbell", i)
			}
			exit()
		}
		got := m.host.WaitInterrupts(testenv.Patience)
		if len(got) != 1 || got[0] != (virtio.Message{Address: 0xfee00000, Data: 0x41}) {
			t.Fatalf("request %d: messages %+v", i, got)
		}
		if u, ok := ring.Used(); !ok || u.Len != 64 || bytes.Equal(w, make([]byte, 64)) {
			t.Fatalf("request %d: %+v, % x", i, u, w)
		}
	}
}

// vCPUs access every register while the device signals: there must be no deadlock, and the race
// detector must report nothing.
func TestManyVCPUsAtOnce(t *testing.T) {
	m := newMachine(t, recorder(), true)
	m.enableMSIX()
	var vcpus sync.WaitGroup
	for _, do := range []func(i uint64){
		func(i uint64) { m.start() },
		func(i uint64) { m.vectors(i%4, i%3, 2) },
		func(i uint64) { m.mask(i%3, i%2 == 0) },
		func(i uint64) { m.writeConfig(m.caps[0x11].at+2, 2, i%4<<14) },
		func(i uint64) { m.write(m.caps[2].off+i%2*4, 4, i) },
		func(i uint64) { m.out(i%4, 2, i) },
		func(i uint64) { m.pending(); m.read(m.caps[3].off, 1); m.read(0x14, 1) },
		func(i uint64) {
			m.writeConfig(m.caps[5].at+8, 4, 0x14)
			m.writeConfig(m.caps[5].at+12, 4, 1)
			m.config(m.caps[5].at+16, 1)
		},
		func(i uint64) { m.tr.Frontend().Call(int(i % 2)).Signal(); m.host.Interrupts() },
		func(i uint64) {
			if a := m.dev.Activations(); len(a) > 0 {
				a[len(a)-1].ConfigChanged()
			}
		},
	} {
		vcpus.Go(func() {
			for i := range uint64(300) {
				do(i)
			}
		})
	}
	vcpus.Wait()
	m.start()
	if got := m.read(0x14, 1); got != 15 {
		t.Errorf("status %#x afterwards", got)
	}
}
