// Package boot loads a kernel image into a guest. It writes the kernel, the initrd, the command
// line and the boot structures to guest RAM and returns the register state ([Entry]) with which the
// first vCPU starts.
//
// The guest does not unpack the kernel. A bzImage, or a vmlinux that is compressed as a whole, is
// unpacked here, in memory. Package guestimages/kernel unpacks each kernel once with [Unpack] and
// keeps the vmlinux, so that guests start faster. A kernel that was unpacked does not randomize its
// address, because only the bzImage's own decompressor does that. [Options.KeepPacked] runs that
// decompressor in the guest.
//
// Image formats, recognized by content:
//
//   - bzImage, boot protocol 2.12 or newer with a 64-bit entry
//   - ELF vmlinux with a 64-bit entry, a PVH note, or both
//   - such a vmlinux compressed with gzip, xz, zstd, lz4 or bzip2
//
// Sources: Documentation/arch/x86/boot.rst and zero-page.rst, uapi asm/bootparam.h,
// xen/include/public/arch-x86/hvm/start_info.h, the ELF-64 object file format 1.5. 32-bit kernels
// and 16-bit entry are not supported.
//
// An image is untrusted input: each header is bounds-checked before use, and unpacking is limited
// in size and ratio. The pure parts (e820, zeroPage, startInfo, identityMap) take values and return
// values.
//
// A [Kernel] must be used by one goroutine at a time. The caller of [Open] must call Close; guest
// memory stays valid after Close.
package boot
