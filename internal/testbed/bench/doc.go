// Package bench compares minivmm with QEMU on one host kernel. Both run as processes with the same
// guest kernel, initrd, memory, tap and kind of LIO target, and their guests run the same commands
// from the serial console.
//
// The package contains benchmarks only. docs/performance.md describes how to run them, and lists
// their results. The benchmarks measure with the host's clock. In the emulated host with -icount,
// where an instruction takes one nanosecond, results repeat within 1 %.
//
//	MINIVMM_BINARY     the minivmm to measure
//	MINIVMM_GUESTS     guest kernels, as for package vmmtest; the first is used
//	MINIVMM_QEMU       the QEMU to compare with; qemu-system-x86_64 if not set
package bench
