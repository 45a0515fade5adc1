// Package kvm is the part of the KVM ABI that minivmm uses, for x86-64.
//
// It is a thin layer: one row in a table per ioctl (request.go), one function
// that issues them (ioctl_unsafe.go), and one type per kind of file: System
// (/dev/kvm), VM, VCPU, and Stats, the counters of a VM or a VCPU. It decides
// nothing about a machine: no address map, no CPUID policy, no threads. It
// imports no other package of the module.
//
// Source: include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h, and
// Documentation/virt/kvm/api.rst for the meaning. testdata/abi.c prints all
// numbers and layouts from the installed headers. Tests compare both, the
// program's output and the Go tables, with testdata/abi.golden.
//
// Not covered: nested state, SEV, device attributes, dirty logs and rings, Xen
// and Hyper-V emulation, a local APIC outside the kernel.
//
// # Errors
//
// The error of a failed ioctl wraps an *os.PathError. Its Op is the C name of
// the ioctl, its Path names the file ("/dev/kvm", "kvm-vm", "kvm-vcpu-0") and its
// Err is the errno. A required capability or a counter that the running kernel
// lacks matches errors.ErrUnsupported.
//
// # Concurrency
//
// System, VM and Stats may be used by several goroutines at once. A VCPU belongs
// to one goroutine that is locked to its thread for as long as the VCPU lives
// (a KVM_RUN from another thread costs a synchronize_rcu); only
// SetImmediateExit may be called from elsewhere.
//
// # Lifetimes
//
// Whoever opens closes: System.Close, VM.Close, VCPU.Close, Stats.Close. The
// kernel keeps a VM alive until all of its files are closed: VM, VCPUs, Stats.
// Memory handed to SetUserMemoryRegion stays the caller's. It is unmapped last,
// because a VCPU that runs without it fails with EFAULT.
package kvm
