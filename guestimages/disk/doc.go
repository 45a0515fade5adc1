// Package disk creates raw disk images for guests, without root: empty disks, ext4 or erofs disks
// that hold a file tree (package filetree), copies of another image, and a small Debian. It also
// resizes and describes images.
//
// No image is mounted. mkfs.erofs(1) reads the tree as a tar. mke2fs(8) copies a staging folder
// that the user owns. Such a folder cannot have the tree's owners, modes, times, extended
// attributes and device nodes, so debugfs(8) sets them in the image afterwards. The same tree and
// the same versions of the tools produce the same bytes. Empty file systems, copies and Debian
// images get a random UUID unless Options sets one. tune2fs(8) sets the UUID and label of copies.
// e2fsck(8) checks and resize2fs(8) resizes a file system. mmdebstrap(1) installs a Debian in a
// chroot and removes the chroot afterwards.
//
// An image is sparse where its file system stores nothing. An image cannot store a serial number:
// the VM's configuration gives a disk its serial number. A guest can find an image by the label and
// UUID of its file system.
//
// An image appears at its path only when it is complete. It is created in a folder beside that
// path, .NAME.minivmm-build (package workdir), and then renamed, or hard-linked if the file system
// cannot rename without replacing. The next build in the same folder removes the work folders of
// killed builds. Only Resize changes an image in place, and Resize does not stop halfway.
//
// A VM holds a flock(2) lock on each image that it uses. The functions that replace or resize an
// image take the same lock, and return EBUSY if the lock is already held. All functions are safe
// for concurrent use by goroutines and processes, except that a Build belongs to one goroutine.
package disk
