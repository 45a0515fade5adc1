package virtio

import (
	"context"

	"minivmm/devices/guestmem"
)

// Queue is one virtqueue as the driver programmed it, with its two notifiers.
type Queue struct {
	Index, Size uint16 // Size is a power of two, set by the driver

	// Guest physical addresses of the descriptor table, the driver (available) ring and the device
	// (used) ring.
	Desc, Driver, Device guestmem.GPA

	// Kick notifies the device, Call notifies the driver. The pair stays the same for the life of
	// the device.
	Kick, Call *Notifier
}

// Activation holds everything a device needs to move buffers. The device receives it at DRIVER_OK.
type Activation struct {
	Memory   *guestmem.Memory
	Features Features // negotiated
	Queues   []Queue  // the enabled queues, in index order; every ring has been checked

	// ConfigChanged reports a change of the configuration space. Failed reports that the data path
	// has failed: the frontend sets DEVICE_NEEDS_RESET, logs the error once and stops the
	// goroutines. Neither blocks; any goroutine may call them, even while the frontend waits for
	// that goroutine.
	ConfigChanged func()
	Failed        func(error)

	// Go starts a goroutine that the frontend owns. An error or panic of the goroutine is
	// passed to Failed. All goroutines share one context, which is canceled on a failure or
	// when a reset starts; every goroutine must return soon after that. The frontend waits for
	// all goroutines and then calls Reset or Close. Once all goroutines have returned, Go does
	// nothing and returns false.
	Go func(func(context.Context) error) bool
}

// Device is a virtio device: its type, configuration space and lifecycle. It does not depend on the
// transport or on KVM. The Frontend calls Activate, Reset, Close and InKernel one at a time. Any
// vCPU may call the other methods at any time.
type Device interface {
	ID() DeviceID
	// Features returns the features that the device offers, without FeatureVersion1, which the
	// frontend adds.
	Features() Features
	// QueueSizes returns the maximum size of each queue; each is a power of two.
	QueueSizes() []uint16
	// ReadConfig fills p from the device-specific configuration space, starting at offset off.
	// Bytes beyond the end of that space read as zero. WriteConfig ignores writes to read-only
	// fields.
	ReadConfig(p []byte, off uint32)
	WriteConfig(p []byte, off uint32)
	// InKernel reports whether the kernel serves the queue while the queue is live. If so, this
	// process does not see the queue's interrupts.
	InKernel(queue int) bool
	// Activate starts the data path. If Activate returns an error, the frontend calls Reset at
	// once.
	Activate(Activation) error
	// Reset stops the data path: when it returns, nothing accesses queues, memory or notifiers. The
	// goroutines of Activation.Go have already exited. Reset is also called when nothing runs.
	Reset() error
	// Close stops the data path as Reset does and releases the device's resources.
	Close() error
}

// Backend moves the buffers of a device: in the kernel or in goroutines.
type Backend interface {
	// Features returns the features that the backend supports, including ring features. The
	// device offers those that the device and the backend both support.
	Features() Features
	// InKernel reports whether the backend is in the kernel.
	InKernel() bool
	// Start has the same contract as Device.Activate.
	Start(Activation) error
	// Stop has the same contract as Device.Reset.
	Stop() error
	Close() error
}
