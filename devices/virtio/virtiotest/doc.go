// Package virtiotest holds what tests of virtio devices, backends and transports share: a [Recorder]
// that replaces a device, and the conformance suites [TestDevice] and [TestBackend] that every device
// and every backend must pass.
//
// A suite uses a device only through the interfaces of package virtio: it knows no kernel and no
// goroutine except those of Activation.Go. It drives the rings from the driver side (package
// queuetest) over real guest memory.
package virtiotest
