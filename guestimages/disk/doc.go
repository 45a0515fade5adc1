// Package disk makes disk images for guests, without root, loop mounts or mounts of any kind: empty ones, those of a file
// tree (package filetree) as ext4 or erofs, and a small Debian; and it grows, shrinks and describes them.
//
// An image is a raw file, sparse where its file system has nothing. The file systems are made by mke2fs, debugfs, resize2fs
// and e2fsck (e2fsprogs) and by mkfs.erofs (erofs-utils): mke2fs(8) -d copies a staging folder that the building user owns,
// and debugfs(8) then gives every inode the owner, mode, times and attributes that the tree says. The same tree gives the
// same bytes, with the same version of those tools.
//
// A raw image has no place for a serial number: that is the machine's to give (key serial of a disk in the configuration).
// What a guest can find an image by wherever it is plugged in are its file system's label and UUID.
//
// Nothing half-made is ever at an image's path. All work is done in a folder beside it, .NAME.minivmm-build (package
// workdir), and the finished image is renamed to its place. Folders of builds that were killed are removed by the next build
// in that place. An image that a machine uses is locked as well, by the same kind of lock
// (vhost/lio): it is neither replaced nor resized, and what is being resized is refused by a machine.
//
// All functions may be called by any number of goroutines and processes; who comes second to a path gets EBUSY. A Build is
// for one goroutine, and is closed by who began it.
package disk
