// Package rng is the virtio entropy device (virtio 1.2 §5.4): one queue, whose writable buffers the
// device fills with random bytes. It has no configuration and is served in this process.
//
// The device allocates nothing on behalf of the driver: bytes go directly to guest memory, at most
// [MaxRequest] for each chain.
//
// Activate, Reset and Close must be called one at a time. A reset waits for the goroutine to exit.
// The caller owns the source.
package rng
