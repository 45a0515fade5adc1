// Package queue is the device side of a split virtqueue (virtio 1.2 §2.7) for in-process backends.
// A backend in the kernel has its own implementation.
//
// The driver may change any part of a ring at any time. Therefore each descriptor is copied once,
// and only the copy is checked and used. A chain has at most as many descriptors as the queue has
// entries. Every buffer must be in RAM. The first violation of the specification stops the queue:
// the error is latched, every later call returns it, and the backend passes it to
// [virtio.Activation].Failed.
//
// The contents of a buffer may also change while it is read: a header must be copied out
// ([Buffers.Read]) before it is checked.
//
// A new Queue expects the ring as the driver sets it up after a reset: empty, with the available
// index and the used index equal to 0. One goroutine may use it at a time; while that goroutine is
// in Wait, other goroutines may call Done and Signal, one at a time. The Queue holds one file
// descriptor, which Close closes. The Queue owns neither the ring nor the notifiers.
package queue
