// Package probe tries whether this machine can run a guest with minivmm's kernel devices: it boots one, with a network card
// on vhost-net and a disk on vhost-scsi, and waits for what the guest says when it sees both. Device files alone prove
// nothing: some machines show a /dev/kvm that cannot run a stock kernel.
//
// Guest is what package emuhost takes as its Probe.
package probe
