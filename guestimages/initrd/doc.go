// Package initrd creates initial RAM file systems: archives of file trees that may contain kernel
// modules, and complete file systems for small guests.
//
// An archive is cpio in the "newc" format of the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst. The same tree always gives the same
// bytes: entries are sorted by name and have no times, and inode numbers count up from 1. Creating
// an archive does not require root, because owners and device nodes are only numbers in the
// archive. The archive is not compressed.
//
// [Build] creates the file system of a guest: minivmm's own init, Debian's busybox-static with a
// link for each of its programs, the drivers of the paravirtual devices, and a plan with the
// caller's host name and command. Such a guest needs no disk.
package initrd
