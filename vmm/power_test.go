package vmm

import (
	"bytes"
	"slices"
	"testing"

	"minivmm/devices/bus"
	"minivmm/devices/pci"
)

// TestPowerRegisters writes every value to every register, with and without the PCI configuration
// ports around one of them.
func TestPowerRegisters(t *testing.T) {
	for _, pciPorts := range []bool{false, true} {
		var ends []Outcome
		var b bus.Bus
		var configPorts bus.Handler
		if pciPorts {
			configPorts = pci.NewRoot(pci.Options{}).Ports()
		}
		if err := attachPower(&b, configPorts, func(o Outcome) { ends = append(ends, o) }); err != nil {
			t.Fatal(err)
		}
		for _, r := range []struct {
			port   uint64
			reads  byte
			ends   Outcome
			values func(v int) bool
		}{
			{0x600, 0, PoweredOff, func(v int) bool { return v == 0x34 }}, // SLP_EN, SLP_TYP 5
			{0x601, 0, 0, func(int) bool { return false }},
			{0x602, 0, Rebooted, func(v int) bool { return v == 1 }},
			{0x42, 0, 0, func(int) bool { return false }},
			{0x60, 0xff, 0, func(int) bool { return false }},
			{0x64, 0xfd, Rebooted, func(v int) bool { return v >= 0xf0 && v%2 == 0 }},
			{0xcf9, 0xff, Rebooted, func(v int) bool { return v&4 != 0 }},
		} {
			for value := range 256 {
				ends = nil
				b.Write(r.port, []byte{byte(value)})
				var want []Outcome
				if r.values(value) {
					want = []Outcome{r.ends}
				}
				if !slices.Equal(ends, want) {
					t.Errorf("write %#x to port %#x: %v, want %v", value, r.port, ends, want)
				}
			}
			p := []byte{0xaa}
			if b.Read(r.port, p); p[0] != r.reads {
				t.Errorf("port %#x reads %#x, want %#x", r.port, p[0], r.reads)
			}
		}
		// Configuration mechanism 1 works around the reset control register.
		ends = nil
		b.Write(0xcf8, []byte{0x04, 0x0e, 0, 0x80})
		want, p := []byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 4)
		if pciPorts {
			want = []byte{0x04, 0x0e, 0, 0x80}
		}
		if b.Read(0xcf8, p); !bytes.Equal(p, want) || len(ends) != 0 {
			t.Errorf("CONFIG_ADDRESS with pci_ports = %v: reads % x, ends %v", pciPorts, p, ends)
		}
	}
}
