package virtiopci_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"

	"minivmm/devices/bus"
	"minivmm/devices/guestmem"
	"minivmm/devices/pci"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/virtiopci"
	"minivmm/devices/virtio/virtiotest"
)

var le = binary.LittleEndian

// machine is a transport on a bus, as a driver sees it.
type machine struct {
	t    testing.TB
	host *fakeHost
	mem  *guestmem.Memory
	dev  *virtiotest.Recorder // nil if the device is not a Recorder
	tr   *virtiopci.Transport
	mmio *bus.Bus
	io   *bus.Bus
	ecam bus.Handler
	base uint64 // of the memory BAR
	port uint64 // of the port BAR
	slot uint64 // ECAM offset of the function
	caps map[byte]capability

	notify []capability // all of one type, in the order of the list

	mu    sync.Mutex
	lines []string
}

type capability struct{ at, bar, off, size, extra uint64 }

func recorder() *virtiotest.Recorder {
	return &virtiotest.Recorder{Type: virtio.NetID, Offers: virtio.FeatureRingEventIdx | 1<<5, Sizes: []uint16{256, 64}, Config: []byte{1, 2, 3, 4, 5, 6, 7, 8}}
}

// newMachine returns a machine whose device has notify ports or not.
func newMachine(t testing.TB, dev virtio.Device, ports bool) *machine {
	m := &machine{t: t, host: &fakeHost{}, mmio: &bus.Bus{}, io: &bus.Bus{}, caps: map[byte]capability{}}
	m.dev, _ = dev.(*virtiotest.Recorder)
	mem, err := guestmem.New([]guestmem.Range{{GPA: 0, SizeBytes: 0x20000}})
	if err != nil {
		t.Fatal(err)
	}
	m.mem = mem
	t.Cleanup(func() { mem.Close() })
	logf := func(format string, args ...any) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lines = append(m.lines, fmt.Sprintf(format, args...))
	}
	m.tr, err = virtiopci.New(dev, mem, m.host, virtiopci.Options{Name: "net0", Logf: logf, NotifyPorts: ports})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.tr.Close(); err != nil {
			t.Error(err)
		}
		if d, v, c := m.host.Live(); d+v+c != 0 {
			t.Errorf("after Close: %d doorbells, %d messages, %d connections", d, v, c)
		}
	})
	root := pci.NewRoot(pci.Options{
		MMIO: m.mmio, Memory: pci.Window{Base: 0xe000_0000, SizeBytes: 0x100_0000},
		IO: m.io, Ports: pci.Window{Base: 0x1000, SizeBytes: 0x1000},
	})
	if err := m.tr.Insert(root); err != nil {
		t.Fatal(err)
	}
	m.ecam, m.slot = root.ECAM(), 1<<15
	m.writeConfig(4, 2, pci.CommandIO|pci.CommandMemory|pci.CommandMaster)
	m.base = m.config(0x10, 4) &^ 0xf
	m.port = m.config(0x14, 4) &^ 3
	for at := m.config(0x34, 1); at != 0; at = m.config(at+1, 1) {
		if m.config(at, 1) == 9 {
			c := capability{at, m.config(at+4, 1), m.config(at+8, 4), m.config(at+12, 4), m.config(at+16, 4)}
			// Of two notify addresses, the one in memory comes last and is kept.
			m.caps[byte(m.config(at+3, 1))] = c
			if m.config(at+3, 1) == 2 {
				m.notify = append(m.notify, c)
			}
		}
		if m.config(at, 1) == 0x11 {
			m.caps[0x11] = capability{at: at, off: m.config(at+4, 4) &^ 7, bar: m.config(at+4, 4) & 7, size: m.config(at+2, 2)&0x7ff + 1, extra: m.config(at+8, 4) &^ 7}
		}
	}
	return m
}

func (m *machine) config(off uint64, n int) uint64 {
	var p [8]byte
	m.ecam.Read(m.slot+off, p[:n])
	return le.Uint64(p[:])
}

func (m *machine) writeConfig(off uint64, n int, v uint64) {
	m.ecam.Write(m.slot+off, le.AppendUint64(nil, v)[:n])
}

func (m *machine) read(off uint64, n int) uint64 {
	var p [8]byte
	m.mmio.Read(m.base+off, p[:n])
	return le.Uint64(p[:])
}

func (m *machine) write(off uint64, n int, v uint64) {
	m.mmio.Write(m.base+off, le.AppendUint64(nil, v)[:n])
}

// out is a write to a port of the device.
func (m *machine) out(off uint64, n int, v uint64) {
	m.io.Write(m.port+off, le.AppendUint64(nil, v)[:n])
}

// enableMSIX enables MSI-X and gives each vector a different message.
func (m *machine) enableMSIX() {
	x := m.caps[0x11]
	m.writeConfig(x.at+2, 2, 0x8000)
	for v := range x.size {
		m.write(x.off+16*v, 4, 0xfee00000)
		m.write(x.off+16*v+4, 4, 0)
		m.write(x.off+16*v+8, 4, 0x40+v)
		m.mask(v, false)
	}
}

func (m *machine) mask(v uint64, masked bool) {
	control := uint64(0)
	if masked {
		control = 1
	}
	m.write(m.caps[0x11].off+16*v+12, 4, control)
}

func (m *machine) pending() uint64 { return m.read(m.caps[0x11].extra, 8) }

// start brings the device to DRIVER_OK with both queues enabled.
func (m *machine) start() {
	m.write(0x14, 1, 0)
	m.write(0x14, 1, 1)
	m.write(0x14, 1, 3)
	m.write(0x08, 4, 1)
	m.write(0x0c, 4, 1)
	m.write(0x14, 1, 11)
	for q := range uint64(2) {
		m.write(0x16, 2, q)
		m.write(0x18, 2, 64)
		m.write(0x20, 8, 0x4000*q+0x1000)
		m.write(0x28, 4, 0x4000*q+0x2000)
		m.write(0x30, 4, 0x4000*q+0x3000)
		m.write(0x1c, 2, 1)
	}
	m.write(0x14, 1, 15)
}

func (m *machine) vectors(config, q0, q1 uint64) {
	m.write(0x10, 2, config)
	for q, v := range []uint64{q0, q1} {
		m.write(0x16, 2, uint64(q))
		m.write(0x1a, 2, v)
	}
}

// sent returns the data of the messages sent since the last call.
func (m *machine) sent() (data []uint32) {
	for _, i := range m.host.Interrupts() {
		data = append(data, i.Data)
	}
	return data
}

func (m *machine) wantSent(what string, want ...uint32) {
	m.t.Helper()
	if got := m.sent(); !slices.Equal(got, want) {
		m.t.Errorf("%s: messages %#x, want %#x", what, got, want)
	}
}
