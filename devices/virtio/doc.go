// Package virtio is where transports, devices and backends meet: identities,
// feature bits, the device status machine ([Frontend]) and the small types that
// cross between them (virtio 1.2).
//
// A queue is three guest addresses, a size and two eventfds: Kick, driver to
// device, and Call, device to driver. That is all vhost needs and all an
// in-process backend needs, so [Activation] is all that crosses from a
// transport to a backend. The eventfd pair belongs to the queue for the
// device's life; an interrupt message belongs to a vector. Masking or
// re-routing a vector connects and disconnects the two ([MSI]) and no backend
// hears of it.
//
// Queue configuration belongs to the Frontend until DRIVER_OK. Then it moves
// into the device and the registers are frozen; a reset moves it back.
//
// From DRIVER_OK to reset the Frontend owns every goroutine of a device
// ([Activation].Go). One that fails or panics costs the device: the driver sees
// DEVICE_NEEDS_RESET, the other goroutines end, and the machine goes on.
//
// The package knows no transport, no KVM and no vhost.
package virtio
