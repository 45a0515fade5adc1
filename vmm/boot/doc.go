// Package boot turns a kernel image into a guest that is about to run its first
// instruction: it puts kernel, initrd, command line and the boot structures
// into guest RAM and returns the register state ([Entry]) that the first vCPU
// starts with.
//
// The guest spends no instruction on unpacking. A bzImage, or a vmlinux that is compressed as a whole, is unpacked here, into memory.
// Package guestimages/kernel unpacks with [Unpack] once and keeps the vmlinux, which then starts faster. A kernel entered this way
// does not randomize its address, because the bzImage's own decompressor does that: [Options.KeepPacked] runs it.
//
// Image formats, told apart by content:
//
//   - bzImage, boot protocol 2.12 or newer with a 64-bit entry
//   - ELF vmlinux with a 64-bit entry, a PVH note, or both
//   - the latter compressed by gzip, xz, zstd, lz4 or bzip2
//
// Sources: Documentation/arch/x86/boot.rst and zero-page.rst, uapi
// asm/bootparam.h, xen/include/public/arch-x86/hvm/start_info.h, the ELF-64
// object file format 1.5. 32-bit kernels and 16-bit entry are not covered.
//
// An image is untrusted input: each header is bounds-checked before use, and
// unpacking is limited in size and ratio. The pure parts ([E820], [ZeroPage],
// [StartInfo], [IdentityMap]) take values and return values.
//
// A [Kernel] is used by one goroutine. Open opens the image, Close closes it;
// guest memory stays valid after Close.
package boot
