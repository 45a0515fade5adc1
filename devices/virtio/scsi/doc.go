// Package scsi implements the virtio SCSI host device (virtio 1.2 §5.6): the configuration space
// and a backend that serves the requests. [NewVhost] uses the kernel's vhost-scsi over a LIO
// target. [NewInProcess] uses a target in this process (package target). In both cases the logical
// units are the guest's disks.
//
// In process, each request queue has one goroutine that reads it (inprocess.go). This goroutine
// answers requests that do not wait for the host, including reads from the page cache. It passes
// all other requests to further goroutines, up to 32 for all queues together. Requests that
// complete at nearly the same time share one interrupt. Task management functions cancel requests
// and wait for them (control.go). A change of a disk's size is reported as an event (events.go).
package scsi
