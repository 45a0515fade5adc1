package vmm

import (
	"slices"
	"testing"
)

// TestPowerRegisters writes every value to every register: one ends the guest
// in each of two.
func TestPowerRegisters(t *testing.T) {
	var ends []Outcome
	r := powerRegisters{func(o Outcome) { ends = append(ends, o) }}
	for off := range uint64(powerPorts) {
		for value := range 256 {
			ends = nil
			r.Write(off, []byte{byte(value)})
			var want []Outcome
			switch {
			case off == 0 && value == 0x34: // SLP_EN, SLP_TYP 5
				want = []Outcome{PoweredOff}
			case off == 2 && value == 1:
				want = []Outcome{Rebooted}
			}
			if !slices.Equal(ends, want) {
				t.Errorf("write %#x to register %d: %v, want %v", value, off, ends, want)
			}
			p := []byte{0xaa}
			if r.Read(off, p); p[0] != 0 {
				t.Errorf("register %d reads %#x", off, p[0])
			}
		}
	}
}
