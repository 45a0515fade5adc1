package acpi

// Config holds the values that the tables report. Addresses are guest physical and below 4 GiB,
// sizes in bytes.
type Config struct {
	// NumCPUs is 1 to 255; APIC ID and processor UID of CPU n are n. A 256th would need a wider
	// entry: the 8-bit ID 255 is the broadcast (ACPI 6.5 §5.2.12.12).
	NumCPUs int

	IOAPIC uint32 // its global system interrupts start at 0

	ECAM        uint32 // 1 MiB, the configuration space of bus 0, which is the only one
	PCIWindow32 Window // memory BARs
	PCIPorts    Window // BARs of I/O ports

	SerialPort uint16 // first of 8 I/O ports of COM1
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
type Window struct{ Base, Size uint32 }

// S5 is the SLP_TYP value for power off, the first element of \_S5.
const S5 = 5

// SleepValue returns the value that OSPM writes to the sleep control register to enter the state
// with the given SLP_TYP: SLP_EN and SLP_TYPx (ACPI 6.5 table 4.18).
func SleepValue(slpTyp uint8) uint8 { return 1<<5 | slpTyp&7<<2 }
