// Package disk creates raw disk images for guests, without root: empty disks, disks with a file
// tree (package filetree) as ext4 or erofs, copies of another image, and a small Debian. It also
// resizes and describes images.
//
// No image is mounted. mkfs.erofs(1) reads the tree as a tar. mke2fs(8) copies a staging folder
// that the user owns. Such a folder cannot have the tree's owners, modes, times, extended
// attributes and device nodes, so debugfs(8) sets them in the image afterwards. The same tree and
// the same versions of the tools produce the same bytes. Empty file systems, copies and Debian
// images get a random UUID unless Options has one. tune2fs(8) sets the UUID and label of copies.
// e2fsck(8) and resize2fs(8) check and resize. mmdebstrap(1) installs a Debian in a chroot, which
// it removes afterwards.
//
// An image is sparse where its file system stores nothing. It has no place for a serial number: the
// machine's configuration gives a disk its serial number. A guest can find an image by the label
// and UUID of its file system.
//
// An image appears at its path only when it is complete. It is created in a folder beside that
// path, .NAME.minivmm-build (package workdir), and then renamed, or linked where the file system
// cannot rename without replacing. The next build in the same folder removes the work folders of
// killed builds. Only Resize changes an image in place, and it does not stop halfway.
//
// A machine locks an image that it uses with flock(2). Replacing and resizing an image take the
// same lock and return EBUSY if it is taken. All functions are safe for concurrent use by
// goroutines and processes, except that a Build belongs to one goroutine.
package disk
