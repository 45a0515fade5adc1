// Package testbed tests the module's structure. The packages below it support tests, benchmarks and
// the demo: emuhost starts an emulated host with KVM and vhost, qemu builds the emulator, vmmtest
// starts guests in a test, vhosttest prepares the kernel's vhost for a test, kerneltest writes
// kernel images, clitest runs programs with pipes and terminals, transcript records consoles, e2e
// tests minivmm as a whole, testenv defines what a test may require, probe finds out whether guests
// work on this machine, bench compares minivmm with QEMU, proof checks what the kernel promises
// about vhost workers, and cmd/ contains the programs behind make.
//
// The product imports none of these packages.
package testbed
