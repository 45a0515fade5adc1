// Package queuetest is the driver side of a split virtqueue (virtio 1.2 §2.7) over real guest
// memory, for tests of the device side: package queue, or a kernel. It can also break the rules for
// drivers: its Set methods write any value anywhere in the ring.
package queuetest
