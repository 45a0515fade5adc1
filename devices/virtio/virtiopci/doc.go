// Package virtiopci is virtio over PCI (virtio 1.2 §4.1): the register map of a
// modern device over [virtio.Frontend], and the wiring of bells and messages.
// It is not transitional and has no INTx: interrupts are MSI-X.
//
// One 32-bit BAR holds everything, see the constants of layout.go; with
// [Options.NotifyPorts] a second one, of I/O ports, holds the notify addresses
// once more. BARs do not move (package pci), so a doorbell stays where it was
// attached.
//
// Doorbells: a guest's write to a queue's notify address signals the queue's
// Kick in the kernel, once [virtio.Host] has attached it; until then the write
// comes to the BAR's handler, which signals Kick itself. Of the two notify
// addresses a queue may have, a driver uses one, and any is right at any time.
//
// Interrupts: a source (a queue's Call, or the notifier for configuration
// changes) is routed to a vector by a register and connected to the vector's
// [virtio.MSI] while the vector is unmasked. Disconnected, its signals stay
// counted: that count is the pending bit, and reconnecting sends it.
//
// A Transport owns its Device, its Frontend, its MSIs and its doorbells; Close
// ends them in the order that leaves no one using what is gone. Locks are taken
// in the order pci.Function, pci.MSIX, wiring; the Frontend's is taken under
// none of them and takes none.
package virtiopci
