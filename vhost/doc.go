// Package vhost is the Go interface to the kernel's vhost ABI. The kernel serves virtio rings and
// connects them to a network tap (/dev/vhost-net) or to SCSI targets (/dev/vhost-scsi).
//
// It is structured like package kvm: a table with one row per ioctl (request.go), and one type per
// kind of file. Package ioctl issues the ioctls. Device has the calls common to all devices; Net
// and Scsi add Start and Stop. Package lio creates the SCSI targets. This package does not depend
// on virtio devices, guest memory or KVM. To find workers and limits, it reads /proc with package
// procfs.
//
// Source: include/uapi/linux/vhost.h and vhost_types.h; drivers/vhost.
//
// Not supported: dirty logging, IOTLB (ACCESS_PLATFORM), vsock, vdpa, cross-endian rings.
//
// # The order of calls
//
// The kernel requires this order: open, SetForkFromOwner, SetOwner, GetFeatures; then, when the
// guest's driver is ready, setFeatures, setMemTable, and for each ring setVringNum, setVringBase,
// setVringAddr, setVringCall and setVringErr. The last two steps depend on the device. For
// vhost-net, the kicks (setVringKick) are set before the backend. For vhost-scsi, the endpoint is
// set before the kicks, because an earlier kick is lost. SetOwnerHere, Net.Start and Scsi.Start
// follow this order.
//
// # The worker
//
// SetOwner creates the worker, the thread that serves the rings. Since Linux 6.4 the worker is a
// thread of this process, cloned from the calling thread, with that thread's affinity, cgroup,
// namespaces and credentials. On older kernels it is a kernel thread. On kernels that support both
// kinds, SetForkFromOwner selects one. SetOwnerHere selects a thread of this process, creates the
// worker and finds it. Since Linux 6.5 a Scsi can have several workers (NewWorkerHere), each of
// which serves some of the rings.
//
// # Errors, concurrency, lifetimes
//
// The error of a failed ioctl wraps an *os.PathError whose Op is the ioctl's C name and whose Path
// is the device node. If the kernel lacks a feature, the error matches errors.ErrUnsupported.
// Several goroutines may use a device, with one call at a time per ring. All ioctls after SetOwner
// must come from the process that called SetOwner. The caller must close every device that it
// opens; Close stops the workers, whose threads can exit slightly later. The memory passed to
// setMemTable must stay mapped until the device is stopped. The kernel holds its own references to
// the eventfds and the tap.
package vhost
