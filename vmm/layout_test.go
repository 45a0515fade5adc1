package vmm

import (
	"bytes"
	"slices"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/pci"
	"minivmm/vmm/boot"
	"minivmm/vmm/config"
)

func TestRAMGoesAroundTheHole(t *testing.T) {
	for _, tc := range []struct {
		size uint64
		want []guestmem.Range
	}{
		{64 << 20, []guestmem.Range{{GPA: 0, SizeBytes: 64 << 20}}},
		{3 << 30, []guestmem.Range{{GPA: 0, SizeBytes: 3 << 30}}},
		{3<<30 + 4096, []guestmem.Range{{GPA: 0, SizeBytes: 3 << 30}, {GPA: 4 << 30, SizeBytes: 4096}}},
		{1 << 40, []guestmem.Range{{GPA: 0, SizeBytes: 3 << 30}, {GPA: 4 << 30, SizeBytes: 1<<40 - 3<<30}}},
	} {
		if got := ramRanges(tc.size); !slices.Equal(got, tc.want) {
			t.Errorf("ramRanges(%#x) = %#x, want %#x", tc.size, got, tc.want)
		}
	}
}

// TestNothingOverlaps checks that every range of the layout is in the hole and that no two overlap.
func TestNothingOverlaps(t *testing.T) {
	ranges := []guestmem.Range{
		{GPA: mmioGPA, SizeBytes: mmioSize}, {GPA: ecamGPA, SizeBytes: ecamSize}, {GPA: ioapicGPA, SizeBytes: 4096},
		{GPA: 0xfee0_0000, SizeBytes: 4096}, // local APIC
		{GPA: identityMapGPA, SizeBytes: 4096}, {GPA: tssGPA, SizeBytes: 3 * 4096},
	}
	for i, a := range ranges {
		if a.GPA < ramHoleGPA || a.GPA+guestmem.GPA(a.SizeBytes) > ramHighGPA {
			t.Errorf("%#x+%#x is not in the hole", a.GPA, a.SizeBytes)
		}
		for _, b := range ranges[i+1:] {
			if a.GPA < b.GPA+guestmem.GPA(b.SizeBytes) && b.GPA < a.GPA+guestmem.GPA(a.SizeBytes) {
				t.Errorf("%#x+%#x overlaps %#x+%#x", a.GPA, a.SizeBytes, b.GPA, b.SizeBytes)
			}
		}
	}
	if boot.LowEnd > acpiGPA {
		t.Errorf("boot structures end at %#x, over the ACPI tables", boot.LowEnd)
	}
}

// TestPortsAreApart does the same for ports. Every device may have a BAR of the maximum size.
func TestPortsAreApart(t *testing.T) {
	type span struct{ first, n int }
	spans := []span{{com1Port, 8}, {sleepControlPort, 3}, {keyboardPort, 1}, {timerPort, 1}, {pciPort, pciPorts}, {pciPortBase, pciPortSize}}
	for i, a := range spans {
		for _, b := range spans[i+1:] {
			if a.first < b.first+b.n && b.first < a.first+a.n {
				t.Errorf("ports %#x+%d overlap %#x+%d", a.first, a.n, b.first, b.n)
			}
		}
	}
	if pciPortSize < 31*256 || pciPortBase+pciPortSize > 1<<16 {
		t.Errorf("ports %#x+%#x: not 256 for each of 31 functions below 64 Ki", pciPortBase, pciPortSize)
	}
}

// TestECAMHoldsEveryDevice puts the devices of the smallest and the largest machine on a bus: the
// guest reads the configuration space of each without an exit.
func TestECAMHoldsEveryDevice(t *testing.T) {
	for _, tc := range []struct{ nets, disks, ports, want int }{
		{0, 0, 0, 1}, {1, 0, 0, 2}, {0, 1, 0, 2}, {0, 64, 0, 2}, {0, 0, 1, 2}, {16, 64, 0, 18}, {16, 64, 1, 19},
	} {
		p := Plan{Config: config.Config{Net: make([]config.Net, tc.nets), Disk: make([]config.Disk, tc.disks)}, Ports: make([]string, tc.ports)}
		list := p.devices()
		size := ecamUsed(len(list))
		if len(list) != tc.want || size > ecamSize {
			t.Fatalf("%d devices in %#x bytes, want %d", len(list), size, tc.want)
		}
		image := make([]byte, size)
		root := pci.NewRoot(pci.Options{ECAM: image})
		for _, d := range list {
			slot, err := root.Insert(pci.NewFunction(pci.Identity{Vendor: 0x1af4}))
			if err != nil {
				t.Fatalf("%s: %v", d.name, err)
			}
			if at := slot << 15; at >= len(image) || !bytes.HasPrefix(image[at:], []byte{0xf4, 0x1a}) {
				t.Errorf("%d devices: %s in slot %d is not in the image", len(list), d.name, slot)
			}
		}
	}
}
