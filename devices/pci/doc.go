// Package pci implements one PCI bus with a host bridge at 00:00.0 and further functions. The guest
// accesses the bus through ECAM and the ports 0xcf8 and 0xcfc (PCI Local Bus 3.0 §6, PCI Express
// 4.0 §7.2, §7.5).
//
// Every byte of configuration space has a value, and a mask of the bits that the guest may write.
// Code runs only where a write has an effect: the command register, base addresses, MSI-X control,
// and ranges that the owner of the function serves itself ([Function.OnConfig]).
//
// Base addresses (BARs) are fixed. There is no firmware, so [Root.Insert] assigns them. A guest can
// determine the size of a BAR and switch its decoding on and off, but cannot move the BAR: whatever
// the guest writes, the register reads back the assigned address, as if those address bits were
// hardwired. Therefore no guest write makes a BAR overlap RAM, another BAR or another device's
// ports, and doorbells never have to move. A BAR may consist of memory or of up to 256 I/O ports.
//
// All interrupts are MSI-X (the interrupt pin register is 0). There is no bridge, no hot plug and
// no power management. Error bits of the status register are never set, so none needs clearing. DMA
// and interrupt messages continue even if the guest clears the bus master bit.
//
// A function has one mutex, and its MSI-X table has another. The function's mutex is locked first.
// vCPUs may access everything concurrently. Insert must be called before the vCPUs run. Nothing in
// this package needs closing: it holds no descriptors and starts no goroutines.
package pci
