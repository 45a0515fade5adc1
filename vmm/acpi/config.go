package acpi

import (
	"errors"
	"fmt"
)

// Config holds the values that the tables report. Addresses are guest physical, sizes in bytes.
type Config struct {
	NumCPUs int // 1 to MaxCPUs; APIC ID and processor UID of CPU n are n

	IOAPICID   uint8
	IOAPICAddr uint32 // global system interrupts start at 0

	ECAM        uint64 // the address of bus 0, whatever FirstBus is; 1 MiB per bus
	FirstBus    uint8
	LastBus     uint8
	PCIWindow32 Window // BARs below 4 GiB
	PCIWindow64 Window // BARs above 4 GiB; Size 0: none
	PCIPorts    Window // BARs of I/O ports; Size 0: none

	SerialPort uint16 // first of 8 I/O ports of COM1; 0: no COM1
	SerialIRQ  uint32 // global system interrupt, edge, active high

	// EventIRQ is the global system interrupt of the Generic Event Device,
	// edge, active high. One pulse is one press of the power button.
	EventIRQ uint32

	// The following are 8-bit I/O ports. The guest powers off by writing SleepValue(5) to
	// SleepControl, and resets by writing ResetValue to Reset. SleepStatus reads as 0 and
	// ignores writes.
	SleepControl uint16
	SleepStatus  uint16
	Reset        uint16
	ResetValue   uint8
}

// Window is a range of guest physical addresses, or of I/O ports, that PCI
// devices may decode.
type Window struct{ Base, Size uint64 }

// MaxCPUs limits the number of processor devices, which are named C000 to CFFF.
const MaxCPUs = 4096

// S5 is the SLP_TYP value for power off, the first element of \_S5.
const S5 = 5

// SleepValue returns the value that OSPM writes to the sleep control register to enter the state
// with the given SLP_TYP: SLP_EN and SLP_TYPx (ACPI 6.5 table 4.18).
func SleepValue(slpTyp uint8) uint8 { return 1<<5 | slpTyp&7<<2 }

// validate returns all problems of c.
func (c Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("acpi: "+format, args...)) }
	if c.NumCPUs < 1 || c.NumCPUs > MaxCPUs {
		bad("%d CPUs, want 1 to %d", c.NumCPUs, MaxCPUs)
	}
	if c.FirstBus > c.LastBus {
		bad("bus range %d to %d", c.FirstBus, c.LastBus)
	}
	if c.ECAM%(1<<20) != 0 || c.ECAM > 1<<52 {
		bad("ECAM at %#x is not 1 MiB aligned or too high", c.ECAM)
	}
	if w := c.PCIWindow32; w.Size == 0 || w.Base > 1<<32 || w.Size > 1<<32-w.Base {
		bad("32-bit PCI window %#x+%#x is empty or above 4 GiB", w.Base, w.Size)
	}
	if w := c.PCIWindow64; w.Size != 0 && (w.Base < 1<<32 || w.Base > 1<<52 || w.Size > 1<<52-w.Base) {
		bad("64-bit PCI window %#x+%#x is below 4 GiB or too high", w.Base, w.Size)
	}
	if w := c.PCIPorts; w.Base > 0xffff || w.Size > 0x10000-w.Base || w.Size == 0x10000 {
		bad("PCI window of ports %#x+%#x covers all 65536 ports or exceeds them", w.Base, w.Size)
	}
	if c.SerialPort > 0xfff8 {
		bad("serial port %#x: 8 ports do not fit", c.SerialPort)
	}
	if c.SleepControl == 0 || c.SleepStatus == 0 || c.Reset == 0 {
		bad("sleep control, sleep status and reset require I/O ports")
	}
	if c.SerialPort != 0 && c.SerialIRQ == c.EventIRQ {
		bad("serial port and event device share interrupt %d: edge-triggered interrupts cannot be shared", c.EventIRQ)
	}
	return errors.Join(errs...)
}
