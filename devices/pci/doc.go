// Package pci is one PCI bus: a host bridge at 00:00.0 and functions beside it,
// reached by ECAM and by the ports 0xcf8 and 0xcfc (PCI Local Bus 3.0 §6,
// PCI Express 4.0 §7.2, §7.5).
//
// Every register is a byte of configuration space plus a mask of what the guest
// may write. Code runs only where a write has an effect: the command register,
// base addresses, MSI-X control, and ranges that an owner answers himself
// ([Function.OnConfig]).
//
// Base addresses (BARs) are fixed. There is no firmware, so [Root.Insert]
// assigns them, and a guest can size them and switch their decoding but not
// move them: whatever it writes, the register reads back the assigned address,
// as if those address bits were wired. Hence nothing the guest writes makes a
// BAR overlap RAM, another BAR or another device's ports, and doorbells need
// never follow. A BAR may be of memory or of I/O ports, up to 256 of these.
//
// Interrupts are MSI-X only (interrupt pin 0). There is no bridge, no hot plug,
// no power management; error bits of the status register are never
// set, so none needs clearing. Bus mastering is a bit that the owner may ask to
// hear of; it stops neither DMA nor messages.
//
// A function has one mutex, its MSI-X table another, taken in this order. vCPUs
// may race on everything. Insert happens before they run. Nothing here is
// closed: the package holds no descriptors and starts no goroutines.
package pci
