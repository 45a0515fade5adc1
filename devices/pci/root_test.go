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
)

func TestTheImageShowsAbsentFunctionsAsOnes(t *testing.T) {
	s := newSample(t)
	for page := 0; page < len(s.ecam); page += ConfigSize {
		absent := page != 0 && page != s.dev<<15
		if got := bytes.Equal(s.ecam[page:page+ConfigSize], bytes.Repeat([]byte{0xff}, ConfigSize)); got != absent {
			t.Errorf("page %#x: all ones %v, want %v", page, got, absent)
		}
	}
	// The image ends before device 3; the bus does not.
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

func TestInsertIsAllOrNothing(t *testing.T) {
	var mmio bus.Bus
	if _, err := mmio.Attach(0x3000, 0x1000, ram{}); err != nil {
		t.Fatal(err)
	}
	r := newRoot(t, Options{MMIO: &mmio, Low: Window{0x1000, 0x3000}})
	two := NewFunction(Identity{})
	for i, size := range []uint64{0x1000, 0x1000, 0x1000} {
		if err := two.AddBAR(i, BAR{SizeBytes: size, Handler: ram{}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Insert(two); err == nil {
		t.Fatal("a BAR was put over another device")
	}
	if mmio.Write(0x1000, []byte{0}) || mmio.Write(0x2000, []byte{0}) {
		t.Error("a refused function stays on the bus")
	}
	small := func(size uint64) *Function {
		f := NewFunction(Identity{Vendor: 1})
		if err := f.AddBAR(0, BAR{SizeBytes: size, Handler: ram{}}); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if _, err := r.Insert(small(0x4000)); err == nil {
		t.Error("a BAR was put beyond the window")
	}
	f := small(16)
	if insert(t, r, f) != 1 {
		t.Error("a refused function took a device number")
	}
	if gpa, _ := f.BARAddress(0); gpa != 0x1000 {
		t.Errorf("a refused function took addresses: the next is %#x", gpa)
	}
	if _, err := r.Insert(f); err == nil {
		t.Error("a function was inserted twice")
	}
	unaligned := newRoot(t, Options{MMIO: &bus.Bus{}, Low: Window{0x1800, 0x1000}})
	if _, err := unaligned.Insert(small(16)); err == nil {
		t.Error("a page was found in a window that has none whole")
	}
	for i := 2; i < 32; i++ {
		insert(t, r, NewFunction(Identity{}))
	}
	if _, err := r.Insert(NewFunction(Identity{})); err == nil {
		t.Error("device 32 was accepted")
	}
}

func TestNewRootRefusesImpossiblePlaces(t *testing.T) {
	for _, tc := range []struct {
		o  Options
		ok bool
	}{
		{Options{}, true},
		{Options{Low: Window{0xf000_0000, 0x1000_0000}, High: Window{1 << 63, 1 << 63}}, true},
		{Options{Low: Window{0xf000_0000, 0x1000_0001}}, false},
		{Options{Low: Window{1 << 40, 0x1000}}, false},
		{Options{Low: Window{^uint64(0xfff), 0x1000}}, false},
		{Options{High: Window{1 << 63, 1<<63 + 1}}, false},
		{Options{ECAM: make([]byte, 100)}, false},
		{Options{ECAM: make([]byte, ECAMSize+ConfigSize)}, false},
	} {
		tc.o.MMIO = &bus.Bus{}
		if _, err := NewRoot(tc.o); (err == nil) != tc.ok {
			t.Errorf("windows %+v %+v, image of %#x bytes: %v, want ok %v", tc.o.Low, tc.o.High, len(tc.o.ECAM), err, tc.ok)
		}
	}
}

// TestLspciReadsTheSample compares a dump with the committed one, and lspci's
// reading of it with the committed reading where lspci (Debian: pciutils) is
// asked for. In a dump, lspci 3.9 takes the upper half of a 64-bit BAR for a
// region of its own (Region 3).
func TestLspciReadsTheSample(t *testing.T) {
	s := newSample(t)
	s.f.Write(regCommand, []byte{CommandMemory | CommandMaster, CommandINTxDisable >> 8})
	s.f.Write(sampleMSIX+3, []byte{msixEnable >> 8})
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
		if !strings.Contains(","+os.Getenv("MINIVMM_REQUIRE")+",", ",lspci,") {
			t.Skip("MINIVMM_REQUIRE does not name lspci (apt-get install pciutils)")
		}
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
