// Package virtiotest is what tests of virtio devices, backends and transports
// share: a [Host] that stands for the machine, a [Recorder] that stands for a
// device, and the conformance suites [TestDevice] and [TestBackend] that every
// device and every backend must pass.
//
// A suite sees a device only through the seam of package virtio: it knows no
// kernel and no goroutine but those of Activation.Go, and drives the rings from
// the driver's side (package queuetest) over real guest memory.
package virtiotest
