// Package kernel keeps kernels: Debian's kernels, which are unpacked but not installed, and
// imported kernels. Each kernel is a folder of the cache, named after the SHA-256 of its image. The
// folder contains the image, the vmlinux that was packed in it, and its modules with the lists that
// depmod(8) creates. One small file, the index, lists the kernels, their sources and their names.
//
// To fetch a series ("6.12", "6.1"), the package looks it up among Debian's meta packages, so a
// series stands for its newest version in this computer's package sources.
//
// A kernel is checked and unpacked once, when it is added. [Store.Find] then reads only the index,
// so a name costs no more than a path. An image or vmlinux never changes, and may be removed while
// guests have it open.
//
// [Modules] determines from depmod(8)'s lists which modules must be loaded, and in which order, and
// unpacks the modules' files. A Modules is read-only and safe for concurrent use.
//
// A [Store] is safe for concurrent use by any number of goroutines and processes. Every change to
// the index is made under a lock. A kernel is added by one rename under that lock, so it is
// complete or absent.
package kernel
