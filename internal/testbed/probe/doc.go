// Package probe checks whether this machine can run a guest with minivmm's kernel devices. It boots
// one, with a network card on vhost-net and a disk on vhost-scsi, and waits for the line that the
// guest prints when it sees both. Device files alone prove nothing: some machines show a /dev/kvm
// that cannot run a stock kernel.
//
// Guest is the Probe of package emuhost.
package probe
