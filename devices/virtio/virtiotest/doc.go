// Package virtiotest contains what the tests of virtio devices, backends and transports share: a
// [Recorder] that replaces a device, a [Driver], and two conformance suites. Every device must pass
// [TestDevice], and every backend must pass [TestBackend].
//
// A suite uses a device only through the interfaces of package virtio. It does not depend on a
// kernel, and it knows only the goroutines that Activation.Go starts. It uses the rings as a driver
// does (package queuetest), in real guest memory.
package virtiotest
