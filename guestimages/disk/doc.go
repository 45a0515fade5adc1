// Package disk makes raw disk images for guests, without root: empty ones, those of a file tree (package filetree) as ext4 or
// erofs, copies of another image, and a small Debian. It also resizes and describes images.
//
// No image is mounted. mke2fs(8) and mkfs.erofs(1) copy a staging folder that the user owns. Owners, modes, times, attributes
// and device nodes, which such a folder cannot have, are set in the image afterwards: in ext4 by debugfs(8), in erofs by this
// package. The same tree gives the same bytes with the same versions of the tools; empty images, copies and Debians get a
// random UUID unless Options has one. tune2fs(8) gives copies their UUID and label, e2fsck(8) and resize2fs(8) resize.
// mmdebstrap(1) installs a Debian, in a chroot of its own in the folder for temporary files.
//
// An image is sparse where its file system has nothing. It has no place for a serial number, which the machine's configuration
// gives to a disk. A guest can find an image by its file system's label and UUID.
//
// No image is at its path before it is whole. It is made in a folder beside it, .NAME.minivmm-build (package workdir), and
// then renamed, or linked where the file system cannot rename without replacing. The next build in that place removes the
// folders of builds that were killed. Only Resize changes an image where it is, and does not stop halfway.
//
// An image in use by a machine is locked with flock(2), and so is one that is being replaced or resized: the second to come
// gets EBUSY. All functions may be called by any number of goroutines and processes, but a Build is for one goroutine, and
// whoever called Begin must call Close.
package disk
