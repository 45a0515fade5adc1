// Package emuhost starts the emulated host and runs one command in it: a Debian kernel under QEMU's translator, which
// emulates AMD's SVM, so that /dev/kvm, /dev/vhost-net, /dev/vhost-scsi and LIO are there and real on a machine that has
// none of them.
//
// The building machine's file tree is the host's root, read-only below a layer in memory: what runs here runs there, by the
// same paths, and what it writes is lost, except in the folders that are shared. A host lives for one command, runs it as
// root and is thrown away. It has no network beyond its own interfaces.
//
// Prepare gathers what is needed, from the cache or by fetching and building it; Run starts QEMU, which ends with Run, and
// with the process if that is killed. One Host may run any number of commands at once, each in a machine of its own.
package emuhost
