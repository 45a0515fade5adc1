// Package initrd makes initial RAM file systems: archives of files, trees and kernel modules, and from these the ones of
// small guests.
//
// An [Archive] is cpio in the "newc" format of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. The
// same entries always give the same bytes: sorted by name, no times, inode numbers counted up. Nothing needs root, because
// owners and device nodes are only numbers in the archive. It is not compressed. Archives may follow each other in one
// file; the kernel unpacks them in that order, and a later file replaces an earlier one. So a kernel's modules can be
// appended to what is the same for all kernels. An Archive is not for concurrent use.
//
// [Build] makes the one of a guest: minivmm's own init, Debian's busybox-static with a link for each of its programs, the
// drivers of the paravirtual devices, and the files that are added. Such a guest needs no disk to run a static program.
package initrd
