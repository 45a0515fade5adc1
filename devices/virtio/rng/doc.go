// Package rng is the virtio entropy device (virtio 1.2 §5.4): one queue, whose
// writable buffers come back filled with random bytes. It has no configuration
// and is served in this process.
//
// Nothing the driver asks for is allocated: bytes go straight to guest memory,
// at most [MaxRequest] for each chain.
//
// Activate, Reset and Close are called one at a time. Reset ends the goroutine
// and waits for it; the source is the caller's.
package rng
