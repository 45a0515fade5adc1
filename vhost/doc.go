// Package vhost is the kernel's vhost ABI: virtio rings that the kernel serves,
// for a network tap (/dev/vhost-net) or SCSI targets (/dev/vhost-scsi).
//
// It has the same shape as package kvm: one row per ioctl (request.go), one
// function that issues them (ioctl_unsafe.go), and a type per kind of file.
// Device is what all of them have in common, Net and Scsi are devices that can
// start and stop. Package lio makes the targets. This package knows nothing of
// virtio devices, guest memory or KVM, and reads /proc with package procfs to
// find workers and limits.
//
// Source: include/uapi/linux/vhost.h and vhost_types.h; drivers/vhost.
//
// Not covered: dirty logging, IOTLB (ACCESS_PLATFORM), vsock, vdpa,
// cross-endian rings.
//
// # The order of calls
//
// The kernel wants: open, SetForkFromOwner, SetOwner, GetFeatures, then, when
// the guest's driver is ready, setFeatures, setMemTable, and for each ring
// setVringNum, setVringBase, setVringAddr, SetVringCall and SetVringErr. The last
// two steps differ: vhost-net wants the kicks (SetVringKick) before its backend,
// vhost-scsi its endpoint before the kicks, because a kick that comes earlier is
// lost. SetOwnerHere, Net.Start and Scsi.Start keep this order.
//
// # The worker
//
// SetOwner makes the thread that serves the rings. Since Linux 6.4 it is a
// thread of this process, copied from the calling thread, with that thread's
// affinity, cgroup, namespaces and credentials; before, a kernel thread. Newer
// kernels have both, and SetForkFromOwner chooses. SetOwnerHere asks for the
// former, makes the worker and finds it. Since Linux 6.5 a Scsi can have more of
// them (NewWorkerHere), each for some of its rings.
//
// # Errors, concurrency, lifetimes
//
// The error of a failed ioctl wraps an *os.PathError whose Op is the ioctl's C
// name and whose Path is the device node. What the kernel lacks matches
// errors.ErrUnsupported. A device may be used by several goroutines, one call at
// a time per ring. The ioctls that come after SetOwner must come from the process
// that called it. Whoever opens closes; Close ends the workers, whose threads can
// outlive it by a moment. The memory given to setMemTable must stay mapped until
// the device is stopped. The kernel has its own references to eventfds and tap.
package vhost
