// Package stress tests the emulated host itself. It floods a guest under a stock QEMU's KVM, whose
// CPUs are busy with system calls, with pings. A QEMU without the fix of package qemu delivers
// interrupts twice under that load, which kills the guest with a double fault or hangs it. So one
// minute without a failure shows that the host can be trusted.
//
// Run requires working /dev/kvm, /dev/vhost-net and /dev/net/tun, and root; emuhost runs it in the
// emulated host.
package stress
