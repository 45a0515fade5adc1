// Package vhost is the kernel's vhost ABI: virtio rings that the kernel serves,
// for a network tap (/dev/vhost-net) or SCSI targets (/dev/vhost-scsi).
//
// It has the same shape as package kvm: one row per ioctl (request.go), one
// function that issues them (ioctl_unsafe.go), and a type per kind of file.
// Device is what all of them have in common, Net and Scsi are devices that can
// start and stop. Package lio makes the targets. It knows nothing of virtio
// devices, guest memory or KVM, and imports nothing of the module.
//
// Source: include/uapi/linux/vhost.h and vhost_types.h; drivers/vhost.
//
// Not covered: dirty logging, IOTLB (ACCESS_PLATFORM), vsock, vdpa,
// cross-endian rings.
//
// # The order of calls
//
// The kernel wants: open, SetForkFromOwner, SetOwner, GetFeatures, then, when
// the guest's driver is ready, SetFeatures, SetMemTable, for each ring
// SetVringNum, SetVringBase, SetVringAddr, SetVringCall, SetVringErr and
// SetVringKick, and last the backend. SetOwnerHere, Net.Start and Scsi.Start
// keep it; who uses the single calls keeps it himself.
//
// # The worker
//
// SetOwner makes the thread that serves the rings. Since Linux 6.4 it is a
// thread of this process, copied from the calling thread, with that thread's
// affinity, cgroup, namespaces and credentials; before, a kernel thread.
// SetOwnerHere makes it and finds it.
//
// # Errors, concurrency, lifetimes
//
// A failed call is an *os.PathError whose Op is the ioctl's C name and whose
// Path is the device node. What the kernel lacks matches errors.ErrUnsupported.
// A device may be used by several goroutines, one call at a time per ring. All
// ioctls must come from the process that called SetOwner. Whoever opens closes;
// Close ends the workers. The memory given to SetMemTable stays mapped, and the
// eventfds and the tap stay open, until the device is stopped.
package vhost
