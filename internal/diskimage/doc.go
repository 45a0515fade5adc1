// Package diskimage opens the files and block devices that are disks: checked,
// and locked against a second use, whoever serves them afterwards. So a disk of
// the kernel's target and one of the target in this process exclude each other,
// with one message.
//
// An [Image] holds one descriptor, which has the lock; its owner closes it.
package diskimage
