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

func newRoot(t testing.TB, o Options) *Root {
	t.Helper()
	r, err := NewRoot(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func insert(t testing.TB, r *Root, f *Function) int {
	t.Helper()
	device, err := r.Insert(f)
	if err != nil {
		t.Fatal(err)
	}
	return device
}

var low = Window{0xe000_0000, 0x1000_0000}

// TestEveryConfigAccessAgreesWithTheModel reads and writes every byte of
// configuration space with every width, directly and through ECAM.
func TestEveryConfigAccessAgreesWithTheModel(t *testing.T) {
	s := newSample(t)
	m := newSampleModel()
	s.check(t, m)
	ecam := s.root.ECAM()
	for off := range ConfigSize {
		for _, n := range []int{1, 2, 4, 8} {
			for i, v := range [][]byte{
				bytes.Repeat([]byte{0}, n), bytes.Repeat([]byte{0xff}, n), []byte("\x5a\xa5\x3c\xc3\x69\x96\x0f\xf0")[:n],
				bytes.Repeat([]byte{0}, n),
			} {
				if i%2 == 0 || off+n > ConfigSize {
					s.f.Write(uint64(off), v)
				} else {
					ecam.Write(uint64(s.dev<<15+off), v)
				}
				m.write(off, v)
				s.check(t, m)
				got := make([]byte, n)
				s.f.Read(uint64(off), got)
				if want := m.read(off, n); !bytes.Equal(got, want) {
					t.Fatalf("read %#x+%d after writing % x: got % x, want % x", off, n, v, got, want)
				}
				if off+n <= ConfigSize {
					again := make([]byte, n)
					if ecam.Read(uint64(s.dev<<15+off), again); !bytes.Equal(got, again) {
						t.Fatalf("read %#x+%d: ECAM gives % x, the function % x", off, n, again, got)
					}
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
	s.f.Write(regCommand, []byte{CommandIO | CommandMemory | CommandMaster})
	for _, tc := range []struct {
		reg                uint64
		address, afterOnes uint32
	}{
		{0x10, 0xe000_0000, 0xffff_c000}, {0x14, 0, 0}, {0x18, 0x0000_000c, 0xffff_c00c}, {0x1c, 0x10, 0xffff_ffff},
		{0x20, 0x1021, 0xffff_ffe1}, {0x24, 0xe000_4000, 0xffff_fff0}, {0x30, 0, 0},
	} {
		get := func() uint32 { var p [4]byte; s.f.Read(tc.reg, p[:]); return le.Uint32(p[:]) }
		set := func(v uint32) { s.f.Write(tc.reg, le.AppendUint32(nil, v)) }
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
		s.f.Write(uint64(off), p)
		m.write(off, p)
		s.check(t, m, uint64(v), uint64(v)&^0xf, uint64(v)<<32)
	}
}

// TestAHookMayReadTheFunction checks what virtio's PCI_CFG window needs.
func TestAHookMayReadTheFunction(t *testing.T) {
	f := NewFunction(Identity{Vendor: 0x1af4})
	off, err := f.AddCapability(9, make([]byte, 18), bytes.Repeat([]byte{0xff}, 18))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.OnConfig(off+16, 4, reader{f, uint64(off + 4)}); err != nil {
		t.Fatal(err)
	}
	f.Write(uint64(off+4), []byte{0x42})
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
	m, err := NewMSIX(4, newOwner(4))
	if err != nil {
		t.Fatal(err)
	}
	add := func(index int, b BAR) func() error { return func() error { return f.AddBAR(index, b) } }
	capability := func(n, mask int) func() error {
		return func() error { _, err := f.AddCapability(9, make([]byte, n), make([]byte, mask)); return err }
	}
	for i, step := range []struct {
		ok bool
		do func() error
	}{
		{true, add(0, BAR{SizeBytes: 0x1000, Handler: h})},
		{false, add(0, BAR{SizeBytes: 0x1000, Handler: h})},
		{false, add(-1, BAR{SizeBytes: 0x1000, Handler: h})},
		{false, add(6, BAR{SizeBytes: 0x1000, Handler: h})},
		{false, add(5, BAR{SizeBytes: 0x1000, Is64: true, Handler: h})},
		{false, add(1, BAR{SizeBytes: 0, Handler: h})},
		{false, add(1, BAR{SizeBytes: 8, Handler: h})},
		{false, add(1, BAR{SizeBytes: 0x1800, Handler: h})},
		{false, add(1, BAR{SizeBytes: 1 << 32, Handler: h})},
		{false, add(3, BAR{SizeBytes: 2, IO: true, Handler: h})},
		{false, add(3, BAR{SizeBytes: 512, IO: true, Handler: h})},
		{false, add(3, BAR{SizeBytes: 16, IO: true, Is64: true, Handler: h})},
		{false, add(3, BAR{SizeBytes: 16, IO: true, Prefetchable: true, Handler: h})},
		{true, add(3, BAR{SizeBytes: 256, IO: true, Handler: h})},
		{true, add(1, BAR{SizeBytes: 1 << 40, Is64: true, Handler: h})},
		{false, add(2, BAR{SizeBytes: 16, Handler: h})},
		{false, func() error { return f.AddMSIX(m, 3, 0) }}, // ports
		{false, func() error { return f.AddMSIX(m, 4, 0) }},
		{false, func() error { return f.AddMSIX(m, 2, 0) }},
		{false, func() error { return f.AddMSIX(m, -1, 0) }},
		{false, func() error { return f.AddMSIX(m, 6, 0) }},
		{false, func() error { return f.AddMSIX(m, 0, 4) }},
		{false, func() error { return f.AddMSIX(m, 0, 0x1000-0x40) }},
		{false, func() error { return f.AddMSIX(m, 0, 0x2000) }},
		{false, func() error { return f.AddMSIX(m, 1, 1<<32-0x40) }},
		{true, func() error { return f.AddMSIX(m, 0, 0x1000-0x48) }},
		{false, func() error { return f.AddMSIX(m, 0, 0) }},
		{false, capability(4, 3)},
		{false, capability(0xb3, 0xb3)},
		{true, capability(0xb2, 0xb2)},
		{false, capability(0, 0)},
		{false, func() error { return f.OnConfig(0x3c, 4, h) }},
		{false, func() error { return f.OnConfig(0x42, 4, h) }},
		{false, func() error { return f.OnConfig(0x40, 6, h) }},
		{false, func() error { return f.OnConfig(0x40, 0, h) }},
		{false, func() error { return f.OnConfig(0xffc, 8, h) }},
		{true, func() error { return f.OnConfig(0xffc, 4, h) }},
	} {
		if err := step.do(); (err == nil) != step.ok {
			t.Errorf("step %d: %v, want ok %v", i, err, step.ok)
		}
	}
	for _, n := range []int{-1, 0, 2049} {
		if _, err := NewMSIX(n, nil); err == nil {
			t.Errorf("NewMSIX(%d) succeeded", n)
		}
	}
	g := NewFunction(Identity{})
	if err := g.AddBAR(0, BAR{SizeBytes: 0x1000, Handler: h}); err != nil {
		t.Fatal(err)
	}
	if _, ok := g.BARAddress(0); ok {
		t.Error("a BAR has an address before insertion")
	}
	insert(t, newRoot(t, Options{MMIO: &bus.Bus{}, Low: low}), g)
	if gpa, ok := g.BARAddress(0); !ok || gpa != low.Base {
		t.Errorf("BARAddress = %#x, %v", gpa, ok)
	}
	for _, index := range []int{-1, 1, 6} {
		if _, ok := g.BARAddress(index); ok {
			t.Errorf("BAR %d has an address", index)
		}
	}
	if _, err := g.AddCapability(9, nil, nil); err == nil {
		t.Error("a capability was added after insertion")
	}
	if g.AddBAR(1, BAR{SizeBytes: 16, Handler: h}) == nil || g.OnConfig(0x40, 4, h) == nil || g.AddMSIX(m, 0, 0) == nil {
		t.Error("the function was changed after insertion")
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
				s.f.Write(uint64(off), v)
				m.write(off, v)
				s.check(t, m, uint64(le.Uint32(program[3:])))
			}
			got := make([]byte, n)
			if s.f.Read(uint64(off), got); !bytes.Equal(got, m.read(off, n)) {
				t.Fatalf("read %#x+%d: got % x, want % x", off, n, got, m.read(off, n))
			}
		}
	})
}
