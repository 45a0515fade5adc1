package acpi

import "fmt"

// dsdt returns the definition block: the devices that probing cannot find.
func dsdt(c Config) aml {
	devices := []aml{
		device("PWRB", name("_HID", eisaID("PNP0C0C"))), // power button, §4.8.2.2.1.2
		eventDevice(c),
		hostBridge(c),
		// A motherboard resource reserves the configuration space of the MCFG (PCI firmware
		// specification §4.1.2); without this resource Linux does not use ECAM.
		device("ECAM",
			name("_HID", eisaID("PNP0C02")),
			name("_UID", integer(0)),
			name("_CRS", resources(memory32(c.ECAM, 1<<20))),
		),
		device("COM1",
			name("_HID", eisaID("PNP0501")), // 16550
			name("_UID", integer(1)),
			name("_CRS", resources(ioPorts(c.SerialPort, 8), interrupt(c.SerialIRQ))),
		),
	}
	for i := range c.NumCPUs {
		devices = append(devices, device(fmt.Sprintf("C%03X", i),
			name("_HID", str("ACPI0007")), // processor device, §8.4
			name("_UID", integer(uint64(i))),
		))
	}
	// Names are as short as the search rules (§5.3) allow: the search for PWRB goes upwards.
	return join(
		scope("_SB", devices...),
		// Two elements suffice (§7.4.2.6), but some guests insist on four.
		name("_S5", pkg(integer(S5), integer(0), integer(0), integer(0))),
	)
}

// eventDevice is the Generic Event Device (§5.6.9). Its interrupt runs _EVT, which notifies the
// power button's driver of a press (0x80, §4.8.2.2.1.2).
func eventDevice(c Config) aml {
	return device("GED",
		name("_HID", str("ACPI0013")),
		name("_UID", integer(0)),
		name("_CRS", resources(interrupt(c.EventIRQ))),
		method("_EVT", 1,
			when(equal(arg(0), integer(uint64(c.EventIRQ))), notify("PWRB", integer(0x80))),
		),
	)
}

// oscPCI is the UUID for a PCI host bridge's _OSC (PCI firmware specification §4.5.1).
const oscPCI = "33db4d5b-1ff7-401c-9657-7441c03dd766"

// hostBridge is a PCI Express root with the windows that its devices may decode. It has no _PRT:
// the devices use MSI-X and have no interrupt pin.
func hostBridge(c Config) aml {
	const capabilities = 3 // _OSC's buffer: status first, then what OSPM supports and requests
	return device("PCI0",
		name("_HID", eisaID("PNP0A08")),
		name("_CID", eisaID("PNP0A03")),
		name("_SEG", integer(0)),
		name("_BBN", integer(0)),
		name("_UID", integer(0)),
		name("_CRS", resources(
			window(spaceBus, 0, Window{0, 1}),
			ioPorts(0xcf8, 8), // CONFIG_ADDRESS and CONFIG_DATA
			window(spaceMemory, memoryWritable, c.PCIWindow32),
			window(spaceIO, ioEntireRange, c.PCIPorts),
		)),
		// All requested control is granted: no firmware handles any of it.
		method("_OSC", 4,
			dwordField(arg(capabilities), 0, "CDW1"),
			when(equal(arg(0), uuid(oscPCI)),
				when(not(equal(arg(1), integer(1))), orInto("CDW1", integer(1<<3))), // unknown revision
			),
			otherwise(orInto("CDW1", integer(1<<2))), // unrecognized UUID
			ret(arg(capabilities)),
		),
	)
}
