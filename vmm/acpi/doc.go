// Package acpi builds the ACPI tables of the machine: values in, bytes out.
//
// The machine is "hardware-reduced" (ACPI 6.5 §4.1): no fixed registers, no
// PM timer, no SCI, no FACS, and with that no PIC, PIT, CMOS clock or i8042 for
// the guest to probe. What the fixed hardware would do is done by a Generic
// Event Device (power button) and by the sleep control and reset ports.
//
// [Build] returns one blob: RSDP, XSDT, FADT, MADT, MCFG, DSDT. File aml.go is
// an encoder for the little ACPI machine language the DSDT needs.
//
// Sources: ACPI specification 6.5; PCI firmware specification 3.3 (MCFG §4.1.2,
// _OSC §4.5.1). Everything here is pure; nothing holds state.
package acpi
