package pci

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"

	"minivmm/devices/bus"
)

// ram is a handler that stores what is written.
type ram []byte

func (m ram) Read(off uint64, p []byte)  { copy(p, m[off:]) }
func (m ram) Write(off uint64, p []byte) { copy(m[off:], p) }

// locked is a handler for several vCPUs. It does its own locking, as devices do.
type locked struct {
	mu sync.Mutex
	h  bus.Handler
}

func (l *locked) Read(off uint64, p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.h.Read(off, p)
}

func (l *locked) Write(off uint64, p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.h.Write(off, p)
}

// refused reports whether do panics, which is how the package refuses what no owner may ask for.
func refused(do func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	do()
	return false
}

func insert(t testing.TB, r *Root, f *Function) int {
	t.Helper()
	device, err := r.Insert(f)
	if err != nil {
		t.Fatal(err)
	}
	return device
}

var window = Window{0xe000_0000, 0x1000_0000}

// TestEveryConfigAccessAgreesWithTheModel reads and writes every byte of
// configuration space with every width.
func TestEveryConfigAccessAgreesWithTheModel(t *testing.T) {
	s := newSample(t)
	m := newSampleModel()
	s.check(t, m)
	for off := range ConfigSize {
		for _, n := range []int{1, 2, 4, 8} {
			for _, v := range [][]byte{
				bytes.Repeat([]byte{0}, n), bytes.Repeat([]byte{0xff}, n), []byte("\x5a\xa5\x3c\xc3\x69\x96\x0f\xf0")[:n],
				bytes.Repeat([]byte{0}, n),
			} {
				s.write(uint64(off), v)
				m.write(off, v)
				s.check(t, m)
				got := make([]byte, n)
				s.read(uint64(off), got)
				if want := m.read(off, n); !bytes.Equal(got, want) {
					t.Fatalf("read %#x+%d after writing % x: got % x, want % x", off, n, v, got, want)
				}
				if !bytes.Equal(s.hook, m.hook[:]) {
					t.Fatalf("write %#x % x: the hook holds % x, want % x", off, v, []byte(s.hook), m.hook)
				}
			}
		}
	}
}

// TestSizingABAR sizes BARs as Linux's __pci_read_base does, then tries to move them, which must
// have no effect.
func TestSizingABAR(t *testing.T) {
	s := newSample(t)
	s.write(regCommand, []byte{CommandIO | CommandMemory | CommandMaster})
	for _, tc := range []struct {
		reg                uint64
		address, afterOnes uint32
	}{
		{0x10, 0xe000_0000, 0xffff_c000}, {0x14, 0, 0}, {0x18, 0, 0}, {0x1c, 0, 0},
		{0x20, 0x1021, 0xffff_ffe1}, {0x24, 0xe000_4000, 0xffff_fff0}, {0x30, 0, 0},
	} {
		get := func() uint32 { var p [4]byte; s.read(tc.reg, p[:]); return le.Uint32(p[:]) }
		set := func(v uint32) { s.write(tc.reg, le.AppendUint32(nil, v)) }
		address := get()
		set(0xffff_ffff)
		afterOnes := get()
		set(address)
		if address != tc.address || afterOnes != tc.afterOnes || get() != address {
			t.Errorf("register %#x: %#x, after ones %#x, restored %#x; want %#x, %#x", tc.reg, address, afterOnes, get(), tc.address, tc.afterOnes)
		}
		for _, v := range []uint32{0, 0x1000_0000, 0xe000_4000, 0xffff_c000, 0xffff_fffe, 0xfee0_0000} {
			if set(v); get() != tc.address {
				t.Errorf("register %#x: moved to %#x by %#x", tc.reg, get(), v)
			}
		}
	}
}

// TestARandomWalkNeverMovesABAR writes random values at random offsets, mostly in the header, and
// checks every address that was written.
func TestARandomWalkNeverMovesABAR(t *testing.T) {
	s := newSample(t)
	m := newSampleModel()
	rng := rand.New(rand.NewPCG(1, 2))
	values := []uint32{0, 0xffff_ffff, 0xffff_fff0, 1, 2, 7, 0x400, 0x1041, 0xe000_0000, 0xe000_4000, 0x1000, 0x10, 0xfee0_0000}
	for range 50_000 {
		off, n := int(rng.Uint32N(0x60)), 1<<rng.IntN(3)
		v := values[rng.IntN(len(values))]
		if rng.IntN(2) == 0 {
			v = rng.Uint32()
		}
		if rng.IntN(4) > 0 {
			off &^= 3
		}
		p := le.AppendUint32(nil, v)[:n]
		s.write(uint64(off), p)
		m.write(off, p)
		s.check(t, m, uint64(v), uint64(v)&^0xf)
	}
}

// TestAHookMayReadTheFunction checks what virtio's PCI_CFG window needs.
func TestAHookMayReadTheFunction(t *testing.T) {
	f := NewFunction(Identity{Vendor: 0x1af4})
	off := f.AddCapability(9, make([]byte, 18), bytes.Repeat([]byte{0xff}, 18))
	f.OnConfig(off+16, 4, reader{f, uint64(off + 4)})
	f.write(uint64(off+4), []byte{0x42})
	p := make([]byte, 4)
	if f.Read(uint64(off+16), p); p[0] != 0x42 {
		t.Errorf("the window reads % x", p)
	}
}

type reader struct {
	f  *Function
	at uint64
}

func (r reader) Read(_ uint64, p []byte) { r.f.Read(r.at, p) }
func (r reader) Write(uint64, []byte)    {}

func TestInvalidFunctionsAreRefused(t *testing.T) {
	f := NewFunction(Identity{})
	h := ram{}
	m := NewMSIX(4, newOwner(4))
	add := func(index int, b BAR) func() { return func() { f.AddBAR(index, b) } }
	msix := func(index int, off uint64) func() { return func() { f.AddMSIX(m, index, off) } }
	capability := func(n, mask int) func() { return func() { f.AddCapability(9, make([]byte, n), make([]byte, mask)) } }
	hook := func(off, n int) func() { return func() { f.OnConfig(off, n, h) } }
	for i, step := range []struct {
		ok bool
		do func()
	}{
		{true, add(0, BAR{SizeBytes: 0x1000, Handler: h})},
		{false, add(0, BAR{SizeBytes: 0x1000, Handler: h})},
		{false, add(-1, BAR{SizeBytes: 0x1000, Handler: h})},
		{false, add(6, BAR{SizeBytes: 0x1000, Handler: h})},
		{false, add(1, BAR{SizeBytes: 0, Handler: h})},
		{false, add(1, BAR{SizeBytes: 8, Handler: h})},
		{false, add(1, BAR{SizeBytes: 0x1800, Handler: h})},
		{false, add(1, BAR{SizeBytes: 1 << 32, Handler: h})},
		{false, add(3, BAR{SizeBytes: 2, IO: true, Handler: h})},
		{false, add(3, BAR{SizeBytes: 512, IO: true, Handler: h})},
		{true, add(3, BAR{SizeBytes: 256, IO: true, Handler: h})},
		{true, add(1, BAR{SizeBytes: 1 << 31, Handler: h})},
		{false, msix(3, 0)}, // ports
		{false, msix(4, 0)},
		{false, msix(-1, 0)},
		{false, msix(6, 0)},
		{false, msix(0, 4)},
		{false, msix(0, 0x1000-0x40)},
		{false, msix(0, 0x2000)},
		{false, msix(1, 1<<32-0x40)},
		{true, msix(0, 0x1000-0x48)},
		{false, msix(0, 0)},
		{false, capability(4, 5)},
		{false, capability(0xb3, 0xb3)},
		{true, capability(0xb2, 0xb2)},
		{false, capability(0, 0)},
		{false, hook(0x3c, 4)},
		{false, hook(0x42, 4)},
		{false, hook(0x50, 6)},
		{false, hook(0x60, 0)},
		{false, hook(0xffc, 8)},
		{true, hook(0xff8, 4)},
		{false, hook(0xff8, 4)},
	} {
		if refused(step.do) == step.ok {
			t.Errorf("step %d: want ok %v", i, step.ok)
		}
	}
	for _, n := range []int{-1, 0, 2049} {
		if !refused(func() { NewMSIX(n, nil) }) {
			t.Errorf("NewMSIX(%d) succeeded", n)
		}
	}
}

// TestVCPUsMayRace is for the race detector.
func TestVCPUsMayRace(t *testing.T) {
	s := newSample(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			ecam, ports := s.root.ECAM(), s.root.Ports()
			var p [4]byte
			for i := range uint64(3000) {
				off := i * 4 % 0x100
				ecam.Write(uint64(s.dev)<<15+off, le.AppendUint32(nil, uint32(i)*0x9e3779b9))
				ecam.Read(uint64(s.dev)<<15+off, p[:])
				ports.Write(0, le.AppendUint32(nil, addressEnable|uint32(s.dev)<<11|uint32(off)))
				ports.Read(4, p[:])
				s.msix.Write(i*4%s.msix.SizeBytes(), p[:])
				s.msix.Read(i*8%s.msix.SizeBytes(), p[:])
				s.mmio.Read(0xe000_0000+i, p[:1])
				s.io.Read(0x1020+i%32, p[:1])
			}
		})
	}
	wg.Wait()
}

// FuzzConfigSpace runs a sequence of accesses against the model: offset (two bytes), width and
// kind, four bytes of value.
func FuzzConfigSpace(f *testing.F) {
	f.Add([]byte("\x04\x00\x12\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, program []byte) {
		s := newSample(t)
		m := newSampleModel()
		for ; len(program) >= 7; program = program[7:] {
			off, n := int(le.Uint16(program))%ConfigSize, 1<<(program[2]&3)
			v := append(bytes.Clone(program[3:7]), program[3:7]...)[:n]
			if program[2]&0x10 != 0 {
				s.write(uint64(off), v)
				m.write(off, v)
				s.check(t, m, uint64(le.Uint32(program[3:])))
			}
			got := make([]byte, n)
			if s.read(uint64(off), got); !bytes.Equal(got, m.read(off, n)) {
				t.Fatalf("read %#x+%d: got % x, want % x", off, n, got, m.read(off, n))
			}
		}
	})
}
