package rng

import (
	"fmt"
	"io"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
)

// MaxRequest is how much of one chain is filled, in bytes. A driver that wants
// more asks again; one that asks for all its memory does not keep a CPU of the
// host.
const MaxRequest = 64 << 10

// Device is a [virtio.Device].
type Device struct {
	source io.Reader
}

var _ virtio.Device = (*Device)(nil)

// New makes a device that gives out what source gives: crypto/rand.Reader, if
// it is to be random. An error of source ends the data path.
func New(source io.Reader) *Device { return &Device{source: source} }

// ID is the entropy device's type.
func (*Device) ID() virtio.DeviceID { return virtio.RngID }

// Features are what package queue can do with a ring; the device has none.
func (*Device) Features() virtio.Features {
	return virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx
}

// QueueSizes has one queue, requestq.
func (*Device) QueueSizes() []uint16 { return []uint16{64} }

// ReadConfig leaves p as it is: there is no configuration.
func (*Device) ReadConfig([]byte, uint32) {}

// WriteConfig has nothing to write.
func (*Device) WriteConfig([]byte, uint32) {}

// InKernel is false.
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

// fill answers one request. What is readable in it has no meaning.
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

// Reset has nothing left to end.
func (*Device) Reset() error { return nil }

// Close leaves the source to the caller.
func (*Device) Close() error { return nil }
