// Package scsi is the virtio SCSI host device (virtio 1.2 §5.6): configuration
// space plus a backend that serves the requests. [NewVhost] is the kernel's
// vhost-scsi over a LIO target, [NewInProcess] a target of this process (package
// target); the logical units of either are the guest's disks.
//
// In process, each request queue has a goroutine, its only reader (inprocess.go):
// it answers what takes no time, a read from the page cache included, and hands
// what waits for the host to another goroutine, up to 32 in all. One call of the
// driver stands for all that was answered meanwhile. Task management cancels and
// waits (control.go). A disk whose size has changed is an event (events.go).
package scsi
