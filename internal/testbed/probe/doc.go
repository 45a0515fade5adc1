// Package probe decides whether tests run on this machine or in the emulated host. To check whether
// this machine can run a guest with minivmm's kernel devices, the package boots a guest, with a
// network card on vhost-net and a disk on vhost-scsi, and waits for the line that the guest prints
// when it sees both devices. Device files alone prove nothing: some machines show a /dev/kvm that
// cannot run a stock kernel.
package probe
