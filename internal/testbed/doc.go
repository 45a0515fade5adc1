// Package testbed holds the tests of the module's structure. The packages below it are what tests, benchmarks and the demo run
// on: emuhost starts an emulated host with KVM and vhost, qemu builds the emulator, vmmtest starts guests in a test,
// vhosttest prepares the kernel's vhost for a test, kerneltest writes kernel images, probe finds out whether guests work
// on this machine, stress loads a host, bench measures, proof checks what the kernel promises about its workers, and
// cmd/ has the programs behind make.
//
// Nothing in the product imports it.
package testbed
