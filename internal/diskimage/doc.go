// Package diskimage opens, checks and locks the files and block devices used as disks. The lock
// prevents a second use regardless of which target serves the disk: a disk of the kernel's target
// and one of the in-process target exclude each other, with the same error.
//
// An [Image] holds one descriptor, which owns the lock; the caller of Open must close it.
package diskimage
