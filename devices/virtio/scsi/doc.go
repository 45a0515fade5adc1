// Package scsi is the virtio SCSI host device (virtio 1.2 §5.6): configuration
// space plus a backend that serves the requests. [NewVhost] is the kernel's
// vhost-scsi over a LIO target, whose LUNs are the guest's disks.
package scsi
