// Package virtio connects transports, devices and backends. It contains the device IDs, the feature
// bits, the device status state machine ([Frontend]) and the small types that transports, devices
// and backends exchange (virtio 1.2).
//
// A queue is three guest addresses, a size and two eventfds: Kick, from driver to device, and Call,
// from device to driver. Neither vhost nor an in-process backend needs more, so [Activation] is all
// that a transport passes to a backend. A queue keeps its eventfd pair for the device's life; an
// interrupt message belongs to a vector. Masking or re-routing a vector connects Call to the
// message or disconnects it ([MSI]) without involving the backend.
//
// The Frontend owns the queue configuration until DRIVER_OK. From then on, the device owns the
// configuration and the registers are frozen. A reset returns the configuration to the Frontend.
//
// From DRIVER_OK to reset the Frontend owns every goroutine of a device ([Activation].Go). If one
// of these goroutines fails or panics, only the device fails: the driver sees DEVICE_NEEDS_RESET,
// the device's other goroutines stop, and the VM continues to run.
//
// The package is independent of transports, KVM and vhost.
package virtio
