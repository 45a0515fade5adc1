package vmm

import (
	"minivmm/devices/guestmem"
	"minivmm/devices/pci"
	"minivmm/vmm/acpi"
	"minivmm/vmm/boot"
)

// The guest's physical addresses, each with its reason. RAM below 4 GiB ends where the devices
// begin; the rest of RAM is above 4 GiB.
const (
	// ramHoleGPA is the end of RAM below 4 GiB: 3 GiB as on most PCs, so that drivers which need
	// 32-bit addresses have enough RAM.
	ramHoleGPA = 0xc000_0000
	// ramHighGPA is where RAM continues above the hole.
	ramHighGPA = 0x1_0000_0000

	// mmioGPA and mmioSize are the window for PCI BARs.
	mmioGPA  = 0xd000_0000
	mmioSize = 0x1000_0000
	// ecamGPA is the address of PCI configuration space, 1 MiB for the only bus. The I/O ports
	// 0xcf8 and 0xcfc exist only if the configuration enables them: a guest that finds these ports
	// uses them for most registers, and each access costs two exits.
	ecamGPA  = 0xe000_0000
	ecamSize = 1 << 20

	// ioapicGPA is the address of KVM's in-kernel IOAPIC
	// (IOAPIC_DEFAULT_BASE_ADDRESS, arch/x86/kvm/ioapic.h).
	ioapicGPA  = 0xfec0_0000
	ioapicPins = 24
	// tssGPA and identityMapGPA are the pages that Intel hosts need for real mode. They are in the
	// hole, where nothing else may be mapped.
	identityMapGPA = 0xfeff_c000
	tssGPA         = 0xfeff_d000

	// acpiGPA is below 1 MiB, in a free range: the kernel's entry structures are below 640 KiB and
	// the image begins at 1 MiB or above.
	acpiGPA  = 0xe_0000
	acpiSize = 0x2_0000
)

// Ports.
const (
	com1Port = 0x3f8
	com1IRQ  = 4
	// CONFIG_ADDRESS and CONFIG_DATA (PCI Local Bus 3.0 §3.2.2.3.2).
	pciPort  = 0xcf8
	pciPorts = 8
	// The three ACPI registers, one byte each (ACPI 6.4 §4.8.3.6, §4.8.3.7).
	sleepControlPort = 0x600
	sleepStatusPort  = 0x601
	resetPort        = 0x602
	// keyboardPort is the command and status port of the keyboard controller. resetControlPort is
	// the reset control register of Intel's chip sets. Guests without ACPI reset a PC through these
	// ports.
	keyboardPort     = 0x64
	timerPort        = 0x42 // channel 2 of the PIT
	resetControlPort = 0xcf9
	// pciPortBase and pciPortSize are the window for PCI I/O BARs: 256 ports, the most a function
	// may have, for each of 31 devices. Linux assigns PCI no ports below 0x1000 (PCIBIOS_MIN_IO,
	// arch/x86/include/asm/pci.h).
	pciPortBase = 0x1000
	pciPortSize = 0x2000
)

// eventIRQ is the pin of the Generic Event Device, which signals the power button.
const eventIRQ = 9

// ramRanges splits RAM around the hole.
func ramRanges(sizeBytes uint64) []guestmem.Range {
	if sizeBytes <= ramHoleGPA {
		return []guestmem.Range{{GPA: 0, SizeBytes: sizeBytes}}
	}
	return []guestmem.Range{
		{GPA: 0, SizeBytes: ramHoleGPA},
		{GPA: ramHighGPA, SizeBytes: sizeBytes - ramHoleGPA},
	}
}

// reserved are the entries of the guest's memory map other than RAM. Linux uses ECAM only if its
// addresses are reserved (arch/x86/pci/mmconfig-shared.c).
var reserved = []boot.E820Entry{
	{GPA: acpiGPA, SizeBytes: acpiSize, Type: boot.ACPIData},
	{GPA: ecamGPA, SizeBytes: ecamSize, Type: boot.Reserved},
}

// acpiConfig returns this layout in the form that package acpi takes.
func acpiConfig(vcpus int) acpi.Config {
	return acpi.Config{
		NumCPUs:      vcpus,
		IOAPIC:       ioapicGPA,
		ECAM:         ecamGPA,
		PCIWindow32:  acpi.Window{Base: mmioGPA, Size: mmioSize},
		PCIPorts:     acpi.Window{Base: pciPortBase, Size: pciPortSize},
		SerialPort:   com1Port,
		SerialIRQ:    com1IRQ,
		EventIRQ:     eventIRQ,
		SleepControl: sleepControlPort,
		SleepStatus:  sleepStatusPort,
		Reset:        resetPort,
		ResetValue:   resetValue,
	}
}

// ecamUsed returns the size of the part of ECAM that has functions: the host bridge and the
// devices.
func ecamUsed(devices int) uint64 {
	const perDevice = 8 * pci.ConfigSize
	return uint64(1+devices) * perDevice
}
