package pci

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/devices/bus"
	"minivmm/internal/testbed/testenv"
)

func TestPortsAndECAMShowTheSameFunctions(t *testing.T) {
	s := newSample(t)
	ecam, ports := s.root.ECAM(), s.root.Ports()
	for device := range uint64(32) {
		for fn := range uint64(8) {
			for reg := uint64(0); reg < 0x100; reg += 4 {
				at := device<<15 | fn<<12 | reg
				ports.Write(0, le.AppendUint32(nil, addressEnable|uint32(device<<11|fn<<8|reg)))
				for off := uint64(4); off < 8; off++ {
					for n := 1; n <= int(8-off); n++ {
						got, want := make([]byte, n), make([]byte, n)
						ports.Read(off, got)
						ecam.Read(at+off-4, want)
						if !bytes.Equal(got, want) {
							t.Fatalf("%02x.%x register %#x+%d, %d bytes: ports % x, ECAM % x", device, fn, reg, off-4, n, got, want)
						}
						if absent := device > 1 || fn > 0; absent && !bytes.Equal(got, bytes.Repeat([]byte{0xff}, n)) {
							t.Fatalf("absent %02x.%x reads % x", device, fn, got)
						}
					}
				}
			}
		}
	}
}

// TestEveryPortAccess tries all offsets and widths with all kinds of addresses.
func TestEveryPortAccess(t *testing.T) {
	s := newSample(t)
	ports := s.root.Ports()
	enabled := uint32(addressEnable | 1<<11 | regInterruptLine)
	for _, tc := range []struct {
		write, address uint32
		answers        bool
	}{
		{0, 0, false}, {enabled, enabled, true}, {enabled &^ addressEnable, enabled &^ addressEnable, false},
		{enabled | 3, enabled, true}, {enabled | 0x7f00_0000, enabled, true}, {enabled | 1<<16, enabled | 1<<16, false},
		{enabled | 1<<8, enabled | 1<<8, false}, {0xffff_ffff, 0x80ff_fffc, false},
	} {
		for off := range uint64(8) {
			for n := uint64(1); n <= 8-off; n++ {
				s.write(regInterruptLine, []byte{0x11})
				ports.Write(0, le.AppendUint32(nil, tc.write))
				p := make([]byte, n)
				ports.Read(off, p)
				want := bytes.Repeat([]byte{0xff}, int(n))
				switch {
				case off == 0 && n == 4:
					want = le.AppendUint32(nil, tc.address)
				case off >= 4 && tc.answers:
					want = []byte{0x11, 0, 0, 0}[off-4:][:n]
				}
				if !bytes.Equal(p, want) {
					t.Errorf("address %#x: read %d+%d returns % x, want % x", tc.write, off, n, p, want)
				}
				ports.Write(off, bytes.Repeat([]byte{0x22}, int(n)))
				line := []byte{0}
				s.read(regInterruptLine, line)
				wantLine := byte(0x11)
				if off == 4 && tc.answers {
					wantLine = 0x22
				}
				if line[0] != wantLine {
					t.Errorf("address %#x: write %d+%d leaves %#x, want %#x", tc.write, off, n, line[0], wantLine)
				}
			}
		}
	}
}

// TestLinuxFindsMechanism1 repeats arch/x86/pci/direct.c, pci_direct_probe, with pci_sanity_check.
func TestLinuxFindsMechanism1(t *testing.T) {
	ports := newSample(t).root.Ports()
	ports.Write(3, []byte{1})
	ports.Write(0, le.AppendUint32(nil, 0x8000_0000))
	p := make([]byte, 4)
	if ports.Read(0, p); le.Uint32(p) != 0x8000_0000 {
		t.Errorf("CONFIG_ADDRESS reads %#x", le.Uint32(p))
	}
	ports.Write(0, le.AppendUint32(nil, 0x8000_0008))
	if ports.Read(6, p[:2]); le.Uint16(p) != 0x0600 {
		t.Errorf("the class of 00:00.0 is %#x, not a host bridge", le.Uint16(p))
	}
	for _, port := range []uint64{3, 0, 2} {
		ports.Write(port, []byte{0})
	}
	if ports.Read(0, p[:1]); p[0] == 0 {
		t.Error("a prober would detect mechanism 2")
	}
}

func TestTheImageShowsAbsentFunctionsAsOnes(t *testing.T) {
	s := newSample(t)
	for page := 0; page < len(s.ecam); page += ConfigSize {
		absent := page != 0 && page != s.dev<<15
		if got := bytes.Equal(s.ecam[page:page+ConfigSize], bytes.Repeat([]byte{0xff}, ConfigSize)); got != absent {
			t.Errorf("page %#x: all ones %v, want %v", page, got, absent)
		}
	}
	// The image ends before device 3, but the bus does not.
	insert(t, s.root, NewFunction(Identity{Vendor: 2}))
	third := NewFunction(Identity{Vendor: 3})
	if device := insert(t, s.root, third); device != 3 {
		t.Fatalf("device number %d, want 3", device)
	}
	p := make([]byte, 2)
	if s.root.ECAM().Read(3<<15, p); le.Uint16(p) != 3 {
		t.Errorf("device 3 reads % x", p)
	}
	if le.Uint16(s.ecam[2<<15:]) != 2 {
		t.Error("device 2 is not in the image")
	}
}

func TestInsertRefusesAFullBus(t *testing.T) {
	withBAR := func(b BAR) *Function {
		f := NewFunction(Identity{Vendor: 1})
		b.Handler = ram{}
		f.AddBAR(0, b)
		return f
	}
	var taken bus.Bus
	if err := taken.Attach(0x3000, 0x1000, ram{}); err != nil {
		t.Fatal(err)
	}
	r := NewRoot(Options{MMIO: &taken, Memory: Window{0x1000, 0x3000}})
	f := withBAR(BAR{SizeBytes: 16})
	if insert(t, r, f) != 1 || f.BARAddress(0) != 0x1000 {
		t.Errorf("the first BAR is at %#x", f.BARAddress(0))
	}
	insert(t, r, withBAR(BAR{SizeBytes: 0x1000}))
	for _, tc := range []struct {
		why string
		r   *Root
		f   *Function
	}{
		{"over another device", r, withBAR(BAR{SizeBytes: 0x1000})},
		{"beyond the window", r, withBAR(BAR{SizeBytes: 0x4000})},
		{"without a port window", r, withBAR(BAR{SizeBytes: 16, IO: true})},
		{"without a whole page", NewRoot(Options{MMIO: &bus.Bus{}, Memory: Window{0x1800, 0x1000}}), withBAR(BAR{SizeBytes: 16})},
	} {
		if _, err := tc.r.Insert(tc.f); err == nil {
			t.Errorf("a BAR was placed %s", tc.why)
		}
	}
	r = NewRoot(Options{})
	for range 31 {
		insert(t, r, NewFunction(Identity{}))
	}
	if _, err := r.Insert(NewFunction(Identity{})); err == nil {
		t.Error("device 32 was accepted")
	}
}

func TestNewRootRefusesInvalidWindows(t *testing.T) {
	for _, tc := range []struct {
		o  Options
		ok bool
	}{
		{Options{}, true},
		{Options{Memory: Window{0xf000_0000, 0x1000_0000}}, true},
		{Options{Memory: Window{0xf000_0000, 0x1000_0001}}, false},
		{Options{Memory: Window{1 << 40, 0x1000}}, false},
		{Options{Memory: Window{^uint64(0xfff), 0x1000}}, false},
		{Options{Ports: Window{0x1000, 0xf000}}, true},
		{Options{Ports: Window{0x1000, 0xf001}}, false},
		{Options{Ports: Window{1<<16 + 1, 0}}, false},
		{Options{ECAM: make([]byte, 100)}, false},
		{Options{ECAM: make([]byte, ECAMSize+ConfigSize)}, false},
	} {
		if refused(func() { NewRoot(tc.o) }) == tc.ok {
			t.Errorf("windows %+v %+v, image of %#x bytes: want ok %v", tc.o.Memory, tc.o.Ports, len(tc.o.ECAM), tc.ok)
		}
	}
}

// TestLspciReadsTheSample compares a configuration space dump with the committed one. If
// MINIVMM_REQUIRE names lspci (Debian: pciutils), it also compares lspci's output for the dump with
// the committed output.
func TestLspciReadsTheSample(t *testing.T) {
	s := newSample(t)
	s.write(regCommand, []byte{CommandIO | CommandMemory | CommandMaster, CommandINTxDisable >> 8})
	s.write(sampleMSIX+3, []byte{msixEnable >> 8})
	var dump strings.Builder
	for device, class := range []string{"Host bridge", "Ethernet controller"} {
		fmt.Fprintf(&dump, "00:%02x.0 %s\n", device, class)
		space := make([]byte, 0x100)
		for reg := range space {
			s.root.ECAM().Read(uint64(device<<15+reg), space[reg:reg+1])
		}
		for reg := 0; reg < len(space); reg += 16 {
			fmt.Fprintf(&dump, "%02x: % x\n", reg, space[reg:reg+16])
		}
		dump.WriteByte('\n')
	}
	golden(t, "sample.dump", dump.String())
	t.Run("lspci", func(t *testing.T) {
		testenv.NeedAsked(t, "lspci", "the text is that of one version of pciutils")
		out, err := exec.Command("lspci", "-n", "-vv", "-F", filepath.Join("testdata", "sample.dump")).Output()
		if err != nil {
			t.Fatalf("lspci (apt-get install pciutils): %v", err)
		}
		golden(t, "sample.lspci", string(out))
	})
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("testdata/%s differs; got\n%s", name, got)
	}
}
