// Package kvm is the part of the KVM ABI that minivmm uses, for x86-64.
//
// It is a thin layer: one row in a table per ioctl (request.go), one function
// that issues them (ioctl_unsafe.go), and three types for the three kinds of
// file: System (/dev/kvm), VM and VCPU. It decides nothing about a machine:
// no address map, no CPUID policy, no threads. It imports nothing of the
// module.
//
// Source: include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h, and
// Documentation/virt/kvm/api.rst for the meaning. testdata/abi.c prints the
// same table from the installed headers; a test compares the two.
//
// Not covered: nested state, SEV, device attributes, dirty rings, Xen and
// Hyper-V emulation, interrupt controllers outside the kernel.
//
// # Errors
//
// Every failed call is an *os.PathError whose Op is the C name of the ioctl,
// whose Path names the file ("/dev/kvm", "kvm-vm", "kvm-vcpu-0") and whose
// Err is the errno. What the running kernel lacks matches
// errors.ErrUnsupported.
//
// # Concurrency
//
// System and VM may be used by several goroutines at once. A VCPU belongs to
// one goroutine that is locked to its thread for as long as the VCPU lives
// (a KVM_RUN from another thread costs a synchronize_rcu); only
// SetImmediateExit may be called from elsewhere.
//
// # Lifetimes
//
// Whoever opens closes: System.Close, VM.Close, VCPU.Close, Stats.Close. The
// kernel keeps a VM alive until the last of its VCPU and Stats files is
// closed, and needs the guest's memory mapped until then, so memory is
// unmapped last. Memory handed to SetUserMemoryRegion stays the caller's.
package kvm
