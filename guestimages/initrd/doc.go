// Package initramfs writes Linux initial RAM file systems: cpio archives in the "newc" format of the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
//
// The same entries always give the same bytes: sorted by name, no times, inode numbers counted up. Nothing needs root,
// because owners and device nodes are only numbers in the archive. It does not compress and does not read archives.
//
// Archives may follow each other in one file, and the kernel unpacks them in that order, a later file replacing an earlier:
// so a kernel's modules can be appended to what is the same for all kernels.
//
// An Archive is not for concurrent use.
package initramfs
