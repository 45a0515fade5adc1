// Package kvm is the part of the KVM ABI that minivmm uses, for x86-64.
//
// It is a thin layer: a table with one row per ioctl (request.go; package ioctl makes the calls),
// and one type per kind of file: System (/dev/kvm), VM, VCPU, and Stats, the counters of a VM or a
// VCPU. The package makes no decisions for a VM: it defines no address map and no CPUID policy, and
// it starts no threads.
//
// Sources: include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h for the numbers and
// layouts, Documentation/virt/kvm/api.rst for their meaning. testdata/abi.c prints all numbers and
// layouts from the installed headers. Tests compare the program's output and the Go tables with
// testdata/abi.golden.
//
// Not supported: nested state, SEV, device attributes, dirty logs and rings, Xen and Hyper-V
// emulation, a local APIC or IOAPIC outside the kernel, coalesced MMIO.
//
// # Errors
//
// The error of a failed ioctl wraps an *os.PathError. Its Op is the C name of the ioctl, its Path
// names the file ("/dev/kvm", "kvm-vm", "kvm-vcpu-0") and its Err is the errno. The error for a
// required capability that the running kernel lacks matches errors.ErrUnsupported.
//
// # Concurrency
//
// System, VM and Stats are safe for concurrent use. A VCPU must be used by one goroutine, which
// stays locked to its thread for the VCPU's lifetime (a KVM_RUN from another thread costs a
// synchronize_rcu). Only SetImmediateExit may be called from other goroutines.
//
// # Lifetimes
//
// The caller must close what it opens: System.Close, VM.Close, VCPU.Close, Stats.Close. The kernel
// keeps a VM alive until all of its files are closed: VM, VCPUs, Stats. Memory passed to
// SetUserMemoryRegion still belongs to the caller. The caller must unmap this memory last, because
// a VCPU that runs without its memory fails with EFAULT.
package kvm
