package vmm

import "minivmm/kvm"

// setRegisters gives a new vCPU its CPUID and MSRs, and the first vCPU the kernel's entry state.
// The other vCPUs wait for their SIPI.
func (v *vcpu) setRegisters(start vcpuStart) error {
	if err := v.fd.SetCPUID2(vcpuCPUID(start.cpuid, v.id, v.vm.plan.Machine.VCPUs, start.tscKHz)); err != nil {
		return err
	}
	if err := v.fd.SetMSRs([]kvm.MSREntry{
		{Index: msrMiscEnable, Data: 1},      // fast strings
		{Index: msrMTRRDefType, Data: 0x806}, // enabled, default write-back: no ranges are needed
	}); err != nil {
		return err
	}
	if v.id != 0 {
		return nil
	}
	sregs, err := v.fd.Sregs()
	if err != nil {
		return err
	}
	start.entry.Apply(&sregs)
	if err := v.fd.SetSregs(sregs); err != nil {
		return err
	}
	return v.fd.SetRegs(start.entry.Regs)
}
