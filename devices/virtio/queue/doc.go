// Package queue is the device's side of a split virtqueue (virtio 1.2 §2.7) for
// backends that live in this process. A backend in the kernel has its own.
//
// Everything in a ring is the driver's to change at any time. So a descriptor
// is copied once, the copy is checked and the copy is used; a chain has at most
// as many descriptors as the queue is large; every buffer lies in RAM. The
// first thing that breaks the specification ends the queue: the error stays,
// every later call returns it, and the backend passes it to
// [virtio.Activation].Failed.
//
// The contents of a buffer change under the reader as well: a header is copied
// out ([Buffers.Read]) before it is judged.
//
// A Queue begins with a fresh ring, both indexes 0, as the driver leaves it
// after a reset. It belongs to one goroutine at a time, but while one is in
// Wait, others may call Done and Signal, one at a time. It holds one descriptor,
// which Close gives back; ring and notifiers are not its own.
package queue
