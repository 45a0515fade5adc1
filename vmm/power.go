package vmm

import (
	"minivmm/devices/bus"
	"minivmm/vmm/acpi"
)

// resetValue is what the guest writes to the ACPI reset register.
const resetValue = 1

// powerRegister is a one-byte port with which a guest stops itself: a write stops the guest with
// the given outcome if the written byte equals the field value in all bits of mask.
type powerRegister struct {
	port        uint64
	reads       byte
	mask, value byte
	outcome     Outcome
	end         func(Outcome)
}

// powerRegisters lists all power registers, and one port in place of the timer (PIT), which is not
// emulated.
//
// The keyboard controller (i8042) is not emulated except for its reset line, which the commands
// from 0xf0 to 0xff pulse if bit 0 of the command is clear. Its status reports an empty input
// buffer (bit 1 clear), so that a command may be written at once. All other bits are set, as for a
// port without a device: an output buffer that never becomes empty (bit 0) tells Linux's
// i8042_flush at once that there is no controller.
var powerRegisters = []powerRegister{
	{port: sleepControlPort, mask: 0xff, value: acpi.SleepValue(acpi.S5), outcome: PoweredOff},
	{port: sleepStatusPort, value: 0xff}, // no write stops the guest
	// Unless KVM's clock reports the frequency, Linux calibrates its time stamp counter with
	// channel 2 (quick_pit_calibrate). Linux gives up at once if the port reads as 0. If the port
	// reads as ones, as a port without a device does, Linux gives up only after 100 000 reads.
	{port: timerPort, value: 0xff},
	{port: resetPort, mask: 0xff, value: resetValue, outcome: Rebooted},
	{port: keyboardPort, reads: 0xfd, mask: 0xf1, value: 0xf0, outcome: Rebooted},
	// RST_CPU of the reset control register (Intel ICH9 datasheet §13.7.5).
	{port: resetControlPort, reads: 0xff, mask: 1 << 2, value: 1 << 2, outcome: Rebooted},
}

// attachPower attaches the registers to the bus of ports. The reset control register is inside the
// range of configPorts, the ports of PCI configuration mechanism 1, if the VM has these ports.
func attachPower(b *bus.Bus, configPorts bus.Handler, end func(Outcome)) error {
	for _, r := range powerRegisters {
		r.end = end
		h, port, size := bus.Handler(r), r.port, uint64(1)
		if r.port == resetControlPort && configPorts != nil {
			h, port, size = overlaid{configPorts, resetControlPort - pciPort, r}, pciPort, pciPorts
		}
		if err := b.Attach(port, size, h); err != nil {
			return err
		}
	}
	return nil
}

func (r powerRegister) Read(_ uint64, p []byte) { p[0] = r.reads }

func (r powerRegister) Write(_ uint64, p []byte) {
	if p[0]&r.mask == r.value {
		r.end(r.outcome)
	}
}

// overlaid is a range of ports with one byte that belongs to another register. Wider accesses go to
// the range: CONFIG_ADDRESS at 0xcf8 contains the reset control register.
type overlaid struct {
	bus.Handler
	at    uint64
	inner bus.Handler
}

func (o overlaid) Read(off uint64, p []byte) { o.of(off, p).Read(off, p) }

func (o overlaid) Write(off uint64, p []byte) { o.of(off, p).Write(off, p) }

func (o overlaid) of(off uint64, p []byte) bus.Handler {
	if off == o.at && len(p) == 1 {
		return o.inner
	}
	return o.Handler
}
