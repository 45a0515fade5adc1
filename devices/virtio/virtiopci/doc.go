// Package virtiopci is virtio over PCI (virtio 1.2 §4.1): the register map of a modern device over
// [virtio.Frontend], and the connection of notifiers and interrupt messages. The device is not
// transitional and has no INTx: interrupts are MSI-X.
//
// One 32-bit BAR holds all regions: see the constants in layout.go. With [Options.NotifyPorts], a
// second BAR, of I/O ports, holds a second set of notify addresses. BARs do not move (package pci),
// so a doorbell stays attached at the same address.
//
// Doorbells: a guest's write to a queue's notify address signals the queue's Kick in the kernel,
// once [virtio.Host] has attached the doorbell. Before that the write reaches the BAR's handler,
// which signals Kick itself. If a queue has two notify addresses, a driver uses one of them, but
// both always work.
//
// Interrupts: a source (a queue's Call, or the notifier for configuration changes) is routed to a
// vector by a register, and connected to the vector's [virtio.MSI] while the vector is unmasked.
// While the source is disconnected, its signals stay in the eventfd's counter: the counter is the
// pending bit, and reconnecting sends the interrupt.
//
// A Transport owns its Device, its Frontend, its MSIs and its doorbells. Close closes them in an
// order in which none uses a closed one. The lock order is pci.Function, pci.MSIX, wiring. No
// goroutine holds the Frontend's lock together with one of these locks.
package virtiopci
