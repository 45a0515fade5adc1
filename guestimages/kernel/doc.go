// Package kernel provides Debian's kernels, unpacked but not installed: the image and its modules, with the lists that
// depmod(8) makes of them.
//
// A series ("6.12", "6.1") is found among Debian's meta packages, so it is the newest version of that series which the
// machine's package sources offer.
package kernel
