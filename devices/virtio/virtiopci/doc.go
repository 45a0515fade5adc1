// Package virtiopci implements virtio over PCI (virtio 1.2 §4.1). It provides the registers of a
// modern device on top of a [virtio.Frontend], and connects notifiers to doorbells and to interrupt
// messages. The device is not transitional. It has no INTx: all interrupts are MSI-X.
//
// One 32-bit BAR holds all regions (see the constants in layout.go). With [Options.NotifyPorts], a
// second BAR consists of I/O ports and holds a second set of notify addresses. BARs do not move
// (package pci), so a doorbell stays attached at the same address.
//
// Doorbells: a guest's write to a queue's notify address signals the queue's Kick in the kernel,
// once [virtio.Host] has attached the doorbell. Before that the write reaches the BAR's handler,
// which signals Kick itself. If a queue has two notify addresses, a driver uses one of them, but
// both always work.
//
// Interrupts: a register selects the vector of each source (a queue's Call, or the notifier for
// configuration changes). While that vector is unmasked, the source is connected to the vector's
// [virtio.MSI]. While the source is disconnected, its signals stay in the counter of its eventfd.
// The counter serves as the pending bit, and reconnecting sends the interrupt.
//
// A Transport owns its Device, its Frontend, its MSIs and its doorbells. Close closes them in an
// order that never leaves an open one using a closed one. The locks are taken in the order
// pci.Function, pci.MSIX, wiring. No goroutine holds the Frontend's lock together with one of these
// locks.
package virtiopci
