// Package acpi builds the ACPI tables of the machine. It takes plain values and returns bytes.
//
// The machine is "hardware-reduced" (ACPI 6.5 §4.1): it has no fixed registers, no PM timer, no SCI
// and no FACS, and therefore no PIC, PIT, CMOS clock or i8042 for the guest to probe. A Generic
// Event Device (power button) and the sleep control and reset ports replace the fixed hardware.
//
// [Build] returns one blob: RSDP, XSDT, FADT, MADT, MCFG, DSDT. File aml.go encodes the small part
// of ACPI machine language that the DSDT needs.
//
// Sources: ACPI specification 6.5; PCI firmware specification 3.3 (MCFG §4.1.2, _OSC §4.5.1).
// All functions are pure.
package acpi
