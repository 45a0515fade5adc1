// Package virtiotest contains helpers that tests of virtio devices, backends and transports share:
// a [Recorder] that replaces a device, a [Driver], and the conformance suites [TestDevice] and
// [TestBackend] that every device and every backend must pass.
//
// A suite uses a device only through the interfaces of package virtio. It does not depend on a
// kernel, and it knows no goroutines except those that Activation.Go starts. It drives the rings
// from the driver side (package queuetest) over real guest memory.
package virtiotest
