// Package pci implements one PCI bus with a host bridge at 00:00.0 and further functions. The guest
// accesses the bus through ECAM and the ports 0xcf8 and 0xcfc (PCI Local Bus 3.0 §6, PCI Express
// 4.0 §7.2, §7.5).
//
// Every register is a byte of configuration space and a mask of the bits that the guest may write.
// Code runs only where a write has an effect: the command register, base addresses, MSI-X control,
// and ranges that the owner of the function serves itself ([Function.OnConfig]).
//
// Base addresses (BARs) are fixed. There is no firmware, so [Root.Insert] assigns them. A guest can
// size them and switch their decoding but not move them: whatever it writes, the register reads
// back the assigned address, as if those address bits were hardwired. Therefore no guest write
// makes a BAR overlap RAM, another BAR or another device's ports, and doorbells never have to move.
// A BAR may consist of memory or of up to 256 I/O ports.
//
// Interrupts are MSI-X only (interrupt pin 0). There is no bridge, no hot plug and no power
// management. Error bits of the status register are never set, so none needs clearing. Clearing the
// bus master bit stops neither DMA nor messages.
//
// A function has one mutex and its MSI-X table another; the function's is locked first. vCPUs may
// access everything concurrently. Insert must be called before they run. Nothing in this package
// needs closing: it holds no descriptors and starts no goroutines.
package pci
