// Package rng is the virtio entropy device (virtio 1.2 §5.4): one queue, whose writable buffers the
// device fills with random bytes. It has no configuration and is served in this process.
//
// The device allocates nothing on behalf of the driver: bytes go directly to guest memory, at most
// [MaxRequest] bytes for each chain.
//
// Activate, Reset and Close must be called one at a time. A reset waits until the goroutine that
// serves the queue has exited. The caller owns the source.
package rng

import (
	"fmt"
	"io"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
)

// MaxRequest is the maximum number of bytes written to one chain. A driver that needs more asks
// again. The limit keeps a request for all of guest memory from occupying a CPU of the host.
const MaxRequest = 64 << 10

// Device is a [virtio.Device].
type Device struct {
	source io.Reader
}

var _ virtio.Device = (*Device)(nil)

// New creates a device that provides bytes from source, normally crypto/rand.Reader. An error from
// source makes the data path fail.
func New(source io.Reader) *Device { return &Device{source: source} }

// ID returns the entropy device type.
func (*Device) ID() virtio.DeviceID { return virtio.RngID }

// Features returns the ring features of package queue; the device has no features of its own.
func (*Device) Features() virtio.Features {
	return virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx
}

// QueueSizes returns the size of the only queue, requestq.
func (*Device) QueueSizes() []uint16 { return []uint16{64} }

// ReadConfig leaves p unchanged: the device has no configuration.
func (*Device) ReadConfig([]byte, uint32) {}

// WriteConfig ignores all writes.
func (*Device) WriteConfig([]byte, uint32) {}

// InKernel returns false: this process serves the queue.
func (*Device) InKernel(int) bool { return false }

// Activate serves the queue, if the driver enabled it.
func (d *Device) Activate(a virtio.Activation) error {
	for _, q := range a.Queues {
		if err := queue.Start(a, q, queue.Each(d.fill)); err != nil {
			return err
		}
	}
	return nil
}

// fill answers one request. It ignores readable buffers.
func (d *Device) fill(c *queue.Chain) (written uint32, err error) {
	for _, b := range c.Writable.Take(MaxRequest) {
		n, err := io.ReadFull(d.source, b)
		written += uint32(n)
		if err != nil {
			return written, fmt.Errorf("entropy: %w", err)
		}
	}
	return written, nil
}

// Reset does nothing: the goroutine has already exited.
func (*Device) Reset() error { return nil }

// Close does nothing: the caller owns the source.
func (*Device) Close() error { return nil }
