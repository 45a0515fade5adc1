// Package emuhost starts the emulated host and runs one command in it. The host is a Debian kernel
// under QEMU's translator, which emulates AMD's SVM. It has a real /dev/kvm, /dev/vhost-net,
// /dev/vhost-scsi and LIO, even if the building machine, the computer that runs this package, has
// none of them.
//
// The host's root is the building machine's file tree, read-only below a layer in memory. A program
// of the building machine has the same path in the host. Files that the program writes are lost,
// except in shared folders. Each host runs one command, as root, and is then discarded. The host
// has no network beyond its own interfaces.
//
// Prepare takes what a host needs from the cache, or fetches and builds it. Run starts QEMU, which
// exits when Run returns or when the process is killed. A Host may run any number of commands at
// once, each in its own emulated machine.
package emuhost
