package pci

import (
	"bytes"
	"testing"

	"minivmm/devices/bus"
)

// The sample is one function that uses every feature, and its configuration space written by hand:
// the contents after insertion and the bits that may change.
const (
	sampleVendorCap = 0x40
	sampleMSIX      = 0x54
	sampleHook      = sampleVendorCap + 16
	sampleVectors   = 70
	sampleTableOff  = 0x1000
	samplePBAOff    = sampleTableOff + 16*sampleVectors
)

type sample struct {
	root  *Root
	mmio  *bus.Bus
	io    *bus.Bus
	ecam  []byte
	f     *Function
	owner *owner
	msix  *MSIX
	hook  ram
	dev   int
}

func newSample(t testing.TB) *sample {
	t.Helper()
	s := &sample{mmio: &bus.Bus{}, io: &bus.Bus{}, ecam: make([]byte, 0x18000), owner: newOwner(sampleVectors), hook: make(ram, 4)}
	s.root = NewRoot(Options{MMIO: s.mmio, IO: s.io, Memory: window, Ports: Window{0x1010, 0xff0}, ECAM: s.ecam})
	s.f = NewFunction(Identity{
		Vendor: 0x1af4, Device: 0x1041, Revision: 1, Class: 0x020000, SubsystemVendor: 0x1af4, Subsystem: 0x0001,
	})
	for i, b := range map[int]BAR{
		0: {SizeBytes: 0x4000, Handler: filled(0x4000, 0xb0)},
		4: {SizeBytes: 32, IO: true, Handler: filled(32, 0xb4)},
		5: {SizeBytes: 16, Handler: filled(16, 0xb5)},
	} {
		s.f.AddBAR(i, b)
	}
	// Like virtio's PCI_CFG capability: bar, offset and length belong to the driver, the last dword
	// is a window.
	body := []byte{20, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	mask := []byte{0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}
	if off := s.f.AddCapability(0x09, body, mask); off != sampleVendorCap {
		t.Fatalf("AddCapability = %#x", off)
	}
	s.f.OnConfig(sampleHook, 4, &locked{h: s.hook})
	s.msix = NewMSIX(sampleVectors, s.owner)
	s.f.AddMSIX(s.msix, 0, sampleTableOff)
	s.dev = insert(t, s.root, s.f)
	return s
}

// read and write access the function's configuration space through ECAM. What is beyond its end
// belongs to the next function of the device, which is absent.
func (s *sample) read(off uint64, p []byte)  { s.root.ECAM().Read(uint64(s.dev)<<15+off, p) }
func (s *sample) write(off uint64, p []byte) { s.root.ECAM().Write(uint64(s.dev)<<15+off, p) }

func filled(n int, v byte) ram { return ram(bytes.Repeat([]byte{v}, n)) }

// sampleModel is the sample's configuration space, bytes and masks.
type sampleModel struct {
	space, mask [ConfigSize]byte
	bars        map[int][2][4]byte // register -> the address and the value shown by sizing
	hook        [4]byte
}

func newSampleModel() *sampleModel {
	m := &sampleModel{bars: map[int][2][4]byte{
		0x10: {{0x00, 0x00, 0x00, 0xe0}, {0x00, 0xc0, 0xff, 0xff}},
		0x20: {{0x21, 0x10, 0x00, 0x00}, {0xe1, 0xff, 0xff, 0xff}},
		0x24: {{0x00, 0x40, 0x00, 0xe0}, {0xf0, 0xff, 0xff, 0xff}},
	}}
	for off, v := range map[int][]byte{
		0x00: {0xf4, 0x1a, 0x41, 0x10, 0, 0, 0x10, 0, 1, 0, 0, 2},
		0x2c: {0xf4, 0x1a, 1, 0},
		0x34: {0x40},
		0x40: {0x09, 0x54, 20, 5},
		0x54: {0x11, 0x00, sampleVectors - 1, 0, 0x00, 0x10, 0, 0, 0x60, 0x14, 0, 0},
	} {
		copy(m.space[off:], v)
	}
	for reg, v := range m.bars {
		copy(m.space[reg:], v[0][:])
	}
	for off, v := range map[int][]byte{
		0x04: {7, 4},
		0x0c: {0xff},
		0x3c: {0xff},
		0x44: {0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		0x57: {0xc0},
	} {
		copy(m.mask[off:], v)
	}
	return m
}

// write is one access of any width. It writes byte by byte, except to BARs.
func (m *sampleModel) write(off int, p []byte) {
	for i, v := range p {
		at := off + i
		if at >= ConfigSize {
			return
		}
		if at >= sampleHook && at < sampleHook+4 {
			m.hook[at-sampleHook] = v
		}
		m.space[at] = m.space[at]&^m.mask[at] | v&m.mask[at]
	}
	for reg, v := range m.bars {
		if off+len(p) <= reg || off >= reg+4 {
			continue
		}
		show := v[0]
		if off <= reg && off+len(p) >= reg+4 && bytes.Equal(p[reg-off:reg-off+4], []byte{0xff, 0xff, 0xff, 0xff}) {
			show = v[1]
		}
		copy(m.space[reg:], show[:])
	}
}

// read returns the result of an access of n bytes.
func (m *sampleModel) read(off, n int) []byte {
	p := bytes.Repeat([]byte{0xff}, n)
	copy(p, m.space[off:])
	for i := range p {
		if at := off + i - sampleHook; at >= 0 && at < 4 {
			p[i] = m.hook[at]
		}
	}
	return p
}

// decodes reports whether the function serves its BARs of a kind.
func (m *sampleModel) decodes(kind byte) bool { return m.space[4]&kind != 0 }

// check compares image, handler and bus with the model.
func (s *sample) check(t testing.TB, m *sampleModel, probes ...uint64) {
	t.Helper()
	page := s.ecam[s.dev<<15:][:ConfigSize]
	if !bytes.Equal(page, m.space[:]) {
		for i := range page {
			if page[i] != m.space[i] {
				t.Fatalf("config byte %#x is %#x, want %#x", i, page[i], m.space[i])
			}
		}
	}
	probes = append(probes, 0xdfff_ffff, 0xe000_0000, 0xe000_3fff, 0xe000_4000, 0xe000_400f, 0xe000_4010)
	for _, gpa := range probes {
		want := byte(0xff)
		switch {
		case !m.decodes(CommandMemory):
		case gpa >= 0xe000_0000 && gpa < 0xe000_4000:
			want = 0xb0
		case gpa >= 0xe000_4000 && gpa < 0xe000_4010:
			want = 0xb5
		}
		p := []byte{0}
		if s.mmio.Read(gpa, p); p[0] != want {
			t.Fatalf("command %#x: byte at %#x is %#x, want %#x", m.space[4], gpa, p[0], want)
		}
	}
	for _, port := range append(probes, 0x1000, 0x101f, 0x1020, 0x103f, 0x1040) {
		want := byte(0xff)
		if m.decodes(CommandIO) && port >= 0x1020 && port < 0x1040 {
			want = 0xb4
		}
		p := []byte{0}
		if s.io.Read(port, p); p[0] != want {
			t.Fatalf("command %#x: port %#x is %#x, want %#x", m.space[4], port, p[0], want)
		}
	}
}
