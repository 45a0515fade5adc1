// Package queuetest is the driver's side of a split virtqueue (virtio 1.2
// §2.7) over real guest memory, for tests of whatever serves the other side:
// package queue, or a kernel. It can also do what no driver may: its Set
// methods write any value anywhere in the ring.
package queuetest
