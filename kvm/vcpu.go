package kvm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
)

// VCPU is a virtual CPU. All methods except SetImmediateExit must be called by the same goroutine,
// which must be locked to its thread.
type VCPU struct {
	f    *os.File
	exit Exit

	// mu prevents SetImmediateExit from accessing the mapping while Close unmaps it.
	mu  sync.Mutex
	run []byte // struct kvm_run and the pages after it; nil once closed
}

// Close unmaps the shared pages and closes the file. It must not be called during Run.
func (v *VCPU) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.run == nil {
		return v.f.Close() // second call: os.ErrClosed
	}
	err := unix.Munmap(v.run)
	v.run = nil
	v.exit = Exit{}
	return errors.Join(err, v.f.Close())
}

// Run enters the guest (KVM_RUN) and returns the reason for the exit. The slices in the Exit refer
// to memory that is shared with the kernel, and the next Run overwrites the Exit. Before the next
// Run, the caller must read the Exit and, if the guest reads, fill in the data. The next Run
// completes the guest's access. A signal, SetImmediateExit, and the start of a vCPU that waited for
// its SIPI cause an Exit with ExitIntr, not an error. The caller must then check its stop flag and
// call Run again. On Linux 6.12.14 to 6.12.43 a signal can cause ENOMEM from the first Run of a VM.
// EFAULT means that the guest accessed memory that is not mapped in this process.
func (v *VCPU) Run() (*Exit, error) {
	switch _, errno := ioctl.Once(v.f, run, 0); errno {
	case 0:
		v.exit.decode(v.run)
	case unix.EINTR, unix.EAGAIN:
		v.exit = Exit{Reason: ExitIntr}
	default:
		return nil, run.Error(v.f.Name(), errno)
	}
	return &v.exit, nil
}

// SetImmediateExit sets or clears kvm_run.immediate_exit. While this flag is set, Run returns at
// once with ExitIntr, but first completes a pending guest read. The flag does not interrupt a vCPU
// that is in the guest or halted. To interrupt such a vCPU, set the flag and then send a signal to
// the vCPU's thread. Any goroutine may call SetImmediateExit at any time.
func (v *VCPU) SetImmediateExit(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.run != nil {
		storeImmediateExit(v.run, on)
	}
}

// Regs reads the general registers (KVM_GET_REGS).
func (v *VCPU) Regs() (Regs, error) { return get[Regs](v, getRegs) }

// SetRegs writes the general registers (KVM_SET_REGS).
func (v *VCPU) SetRegs(r Regs) error { return set(v, setRegs, &r) }

// Sregs reads the system registers (KVM_GET_SREGS).
func (v *VCPU) Sregs() (Sregs, error) { return get[Sregs](v, getSregs) }

// SetSregs writes the system registers (KVM_SET_SREGS). It returns EINVAL for inconsistent values.
func (v *VCPU) SetSregs(s Sregs) error { return set(v, setSregs, &s) }

// SetCPUID2 sets the guest's CPUID leaves (KVM_SET_CPUID2). It must be called before the first Run.
// It returns E2BIG for more than 256 entries.
func (v *VCPU) SetCPUID2(entries []CPUIDEntry) error {
	arg := cpuid2{header: header{count: uint32(len(entries))}}
	if copy(arg.entries[:], entries) < len(entries) {
		return setCPUID2.Error(v.f.Name(), unix.E2BIG)
	}
	return set(v, setCPUID2, &arg)
}

// SetMSRs writes at most 16 MSRs in the given order (KVM_SET_MSRS). If the kernel rejects an MSR,
// the ioctl ends there and returns the number of MSRs written so far instead of an error. SetMSRs
// then returns an error that names the MSR and matches EINVAL.
func (v *VCPU) SetMSRs(entries []MSREntry) error {
	arg := msrs{header: header{count: uint32(len(entries))}}
	if copy(arg.entries[:], entries) < len(entries) {
		return setMSRs.Error(v.f.Name(), unix.E2BIG)
	}
	done, err := ioctl.Pointer(v.f, setMSRs, &arg)
	if err == nil && done < len(entries) {
		err = setMSRs.Error(v.f.Name(), unix.EINVAL)
		return fmt.Errorf("MSR %#x: %w", entries[done].Index, err)
	}
	return err
}

func get[T any](v *VCPU, r ioctl.Request) (T, error) {
	arg := new(T)
	_, err := ioctl.Pointer(v.f, r, arg)
	return *arg, err
}

func set[T any](v *VCPU, r ioctl.Request, arg *T) error {
	_, err := ioctl.Pointer(v.f, r, arg)
	return err
}
