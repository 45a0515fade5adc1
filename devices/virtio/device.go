package virtio

import (
	"context"

	"minivmm/devices/guestmem"
)

// Queue is one virtqueue as the driver programmed it, plus its two bells.
type Queue struct {
	Index, Size uint16 // Size is the driver's, a power of two

	// Guest physical addresses of the descriptor table, the driver
	// (available) ring and the device (used) ring.
	Desc, Driver, Device guestmem.GPA

	// Kick goes from driver to device, Call from device to driver. The pair
	// is the same for the device's whole life.
	Kick, Call *Notifier
}

// Activation is what a device gets at DRIVER_OK: all it needs to move buffers.
type Activation struct {
	Memory   *guestmem.Memory
	Features Features // negotiated
	Queues   []Queue  // the enabled ones, in index order; every ring was checked

	// ConfigChanged announces a change of the configuration space and
	// Failed the death of the data path: the frontend sets
	// DEVICE_NEEDS_RESET, logs the error once and ends the goroutines. Both
	// only post; they may be called from any goroutine, also while the
	// frontend waits for it.
	ConfigChanged func()
	Failed        func(error)

	// Go runs a goroutine that the frontend owns. An error or a panic in it
	// goes to Failed. Its context, the same for all, ends with a failure or
	// when a reset begins, and it must return soon after. The frontend waits
	// for all goroutines and then calls Reset or Close; from then on Go does
	// nothing and returns false.
	Go func(func(context.Context) error) bool
}

// Device is an identity, a configuration space and a lifecycle. It knows no
// transport and no KVM. The Frontend calls Activate, Reset, Close and InKernel
// one at a time; the other methods may be called by any vCPU at any time.
type Device interface {
	ID() DeviceID
	// Features are what the device offers, without FeatureVersion1, which
	// the frontend adds.
	Features() Features
	// QueueSizes holds the maximum size of each queue, powers of two.
	QueueSizes() []uint16
	// ReadConfig fills p from the device-specific configuration at off;
	// beyond its end it reads as zero. WriteConfig ignores what is not
	// writable.
	ReadConfig(p []byte, off uint32)
	WriteConfig(p []byte, off uint32)
	// InKernel says whether the kernel serves the queue when it is live:
	// then this process does not see its interrupts.
	InKernel(queue int) bool
	// Activate starts the data path. After an error, Reset is called at
	// once.
	Activate(Activation) error
	// Reset stops it: on return nothing touches queues, memory or
	// notifiers. The goroutines of Activation.Go have ended before. It is
	// also called when nothing runs.
	Reset() error
	// Close releases what the device holds. It implies Reset.
	Close() error
}

// Backend is who moves the buffers of a device: the kernel, or goroutines.
type Backend interface {
	// Features are those that the backend can serve, ring features
	// included. The device offers what both can do.
	Features() Features
	// InKernel says which of the two it is.
	InKernel() bool
	// Start makes the same promise as Device.Activate.
	Start(Activation) error
	// Stop makes the same promise as Device.Reset.
	Stop() error
	Close() error
}
