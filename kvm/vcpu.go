package kvm

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// VCPU is one virtual CPU. All its methods but SetImmediateExit belong to one
// goroutine, locked to its thread.
type VCPU struct {
	f    *os.File
	vm   *VM
	exit Exit

	// mu keeps SetImmediateExit off the mapping while Close unmaps it.
	mu  sync.Mutex
	run []byte // struct kvm_run and what follows it; nil once closed
}

// Close unmaps the shared pages and closes the file. It must not be called
// while Run is in progress.
func (v *VCPU) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.run == nil {
		return v.f.Close() // a second time: os.ErrClosed
	}
	err := unix.Munmap(v.run)
	v.run = nil
	v.exit = Exit{}
	return errors.Join(err, v.f.Close())
}

// Run enters the guest, KVM_RUN, and returns why it came back. The Exit and
// the slices in it are aliases of memory shared with the kernel: read, and for
// an input filled in, before the next Run, which completes the access. A
// signal or SetImmediateExit is an Exit with ExitIntr, not an error, and so is
// the start of a vCPU that waited for its SIPI: look at the stop flag and run
// on. ENOMEM from the first Run of a VM can be the fault of a signal
// (6.12.14 to 6.12.43), EFAULT is guest memory that is not mapped here.
func (v *VCPU) Run() (*Exit, error) {
	switch errno := ioctlRun(v.f); errno {
	case 0:
		v.exit.decode(v.run)
	case unix.EINTR, unix.EAGAIN:
		v.exit = Exit{Reason: ExitIntr}
	default:
		return nil, &os.PathError{Op: requests[run].name, Path: v.f.Name(), Err: errno}
	}
	return &v.exit, nil
}

// SetImmediateExit makes Run return at once with ExitIntr for as long as it is
// set (kvm_run.immediate_exit); a completed input is still taken in. It does
// not fetch a vCPU that is in the guest or halted: for that, set it and then
// send the vCPU's thread a signal. Any goroutine may call it, at any time.
func (v *VCPU) SetImmediateExit(on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.run != nil {
		storeImmediateExit(v.run, on)
	}
}

// Regs reads the general registers, KVM_GET_REGS.
func (v *VCPU) Regs() (Regs, error) { return get[Regs](v, getRegs) }

// SetRegs writes the general registers, KVM_SET_REGS.
func (v *VCPU) SetRegs(r Regs) error { return set(v, setRegs, &r) }

// Sregs reads the system registers, KVM_GET_SREGS.
func (v *VCPU) Sregs() (Sregs, error) { return get[Sregs](v, getSregs) }

// SetSregs writes the system registers, KVM_SET_SREGS. EINVAL for values that
// contradict each other.
func (v *VCPU) SetSregs(s Sregs) error { return set(v, setSregs, &s) }

// FPU reads the x87 and SSE state, KVM_GET_FPU.
func (v *VCPU) FPU() (FPU, error) { return get[FPU](v, getFPU) }

// SetFPU writes the x87 and SSE state, KVM_SET_FPU.
func (v *VCPU) SetFPU(s FPU) error { return set(v, setFPU, &s) }

// LAPIC reads the local APIC's registers, KVM_GET_LAPIC.
func (v *VCPU) LAPIC() (LAPIC, error) { return get[LAPIC](v, getLAPIC) }

// SetLAPIC writes the local APIC's registers, KVM_SET_LAPIC.
func (v *VCPU) SetLAPIC(l LAPIC) error { return set(v, setLAPIC, &l) }

// MPState is a KVM_MP_STATE_*: whether a vCPU runs.
type MPState uint32

// The states that x86 has.
const (
	MPStateRunnable      MPState = 0 // KVM_MP_STATE_RUNNABLE: the boot vCPU's first state
	MPStateUninitialized MPState = 1 // KVM_MP_STATE_UNINITIALIZED: every other's; waits for INIT and SIPI
	MPStateInitReceived  MPState = 2 // KVM_MP_STATE_INIT_RECEIVED
	MPStateHalted        MPState = 3 // KVM_MP_STATE_HALTED
	MPStateSIPIReceived  MPState = 4 // KVM_MP_STATE_SIPI_RECEIVED
)

// MPState reads whether the vCPU runs, KVM_GET_MP_STATE.
func (v *VCPU) MPState() (MPState, error) {
	arg, err := get[mpStateArg](v, getMPState)
	return MPState(arg.mpState), err
}

// SetMPState writes whether the vCPU runs, KVM_SET_MP_STATE.
func (v *VCPU) SetMPState(s MPState) error {
	return set(v, setMPState, &mpStateArg{mpState: uint32(s)})
}

// SetCPUID2 sets what CPUID answers the guest, KVM_SET_CPUID2. Before the
// first Run; at most 256 entries, else E2BIG.
func (v *VCPU) SetCPUID2(entries []CPUIDEntry) error {
	arg := cpuid2{nent: uint32(len(entries))}
	if copy(arg.entries[:], entries) < len(entries) {
		return &os.PathError{Op: requests[setCPUID2].name, Path: v.f.Name(), Err: unix.E2BIG}
	}
	return set(v, setCPUID2, &arg)
}

// GetMSRs fills in the Data of entries, which name MSRs, KVM_GET_MSRS. The
// error of an MSR that the vCPU does not have names it and matches EINVAL.
func (v *VCPU) GetMSRs(entries []MSREntry) error { return doMSRs(v.f, getMSRs, entries) }

// SetMSRs writes MSRs in the order given, KVM_SET_MSRS. The error of a refused
// one names it and matches EINVAL; those before it are written.
func (v *VCPU) SetMSRs(entries []MSREntry) error { return doMSRs(v.f, setMSRs, entries) }

func get[T any](v *VCPU, id requestID) (T, error) {
	arg := new(T)
	_, err := ioctlPtr(v.f, id, arg)
	return *arg, err
}

func set[T any](v *VCPU, id requestID, arg *T) error {
	_, err := ioctlPtr(v.f, id, arg)
	return err
}
