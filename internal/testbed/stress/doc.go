// Package stress tries the emulated host itself: a guest under a stock QEMU's KVM, its CPUs busy with system calls, is
// flooded with pings. A QEMU without the mend of package qemu delivers interrupts twice under that load, which ends the
// guest with a double fault or hangs it; so one quiet minute says that the host can be trusted.
//
// Run works where /dev/kvm, /dev/vhost-net and /dev/net/tun do, as root; emuhost runs it in the emulated host.
package stress
