package vmm

import "minivmm/vmm/acpi"

// resetValue is what the guest writes to the reset register.
const resetValue = 1

// powerRegisters are the three one-byte ports by which a guest ends itself.
// They read as zero.
type powerRegisters struct {
	end func(Outcome)
}

func (powerRegisters) Read(_ uint64, p []byte) { clear(p) }

func (r powerRegisters) Write(off uint64, p []byte) {
	switch {
	case off == 0 && p[0] == acpi.SleepValue(acpi.S5):
		r.end(PoweredOff)
	case off == resetPort-sleepControlPort && p[0] == resetValue:
		r.end(Rebooted)
	}
}
