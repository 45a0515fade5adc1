// Package initrd creates initial RAM file systems: archives of trees and kernel modules, and from
// these the file systems of small guests.
//
// An archive is cpio in the "newc" format of the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst. The same tree always gives the same
// bytes: entries are sorted by name, have no times, and their inode numbers are counted up. Nothing
// requires root, because owners and device nodes are only numbers in the archive. The archive is
// not compressed.
//
// [Build] creates the file system of a guest: minivmm's own init, Debian's busybox-static with a
// link for each of its programs, the drivers of the paravirtual devices, and the files that the
// caller adds. Such a guest needs no disk to run a static program.
package initrd
