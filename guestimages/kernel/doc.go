// Package kernel keeps kernels: Debian's, unpacked but not installed, and those that are imported. Each is a folder of the
// cache named after the SHA-256 of its image, with the image, the vmlinux that was packed in it, and its modules with the lists that
// depmod(8) makes of them. One small file, the index, says which kernels there are, where each came from and what it is called.
//
// A series ("6.12", "6.1") is found among Debian's meta packages, so it is the newest version of that series which the
// machine's package sources offer.
//
// A kernel is checked and unpacked once, when it comes in. [Store.Find] then reads the index and no more, so it is as
// cheap as a path. An image or vmlinux never changes and may be removed while guests have it open.
//
// [Modules] says, by what depmod(8) wrote, which modules must be loaded and in which order to have the wanted ones, and
// unpacks their files. It is read-only and may be shared.
//
// A [Store] may be used by any number of goroutines and processes. What changes the index holds a lock; a kernel
// comes in by one rename under it, so that it is whole or absent.
package kernel
