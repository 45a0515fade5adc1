package vmm

import (
	"minivmm/kvm"
	"minivmm/vmm/boot"
)

// setRegisters gives a new vCPU its CPUID and MSRs, and the first vCPU the kernel's entry state.
// The others wait for their SIPI.
func (v *vcpu) setRegisters(p vcpuPlan) error {
	if err := v.fd.SetCPUID2(vcpuCPUID(p.cpuid, v.id, p.count, p.tscKHz)); err != nil {
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
	applyEntry(&sregs, p.entry)
	if err := v.fd.SetSregs(sregs); err != nil {
		return err
	}
	return v.fd.SetRegs(kvm.Regs{RIP: p.entry.RIP, RSI: p.entry.RSI, RBX: p.entry.RBX, RFLAGS: p.entry.RFLAGS})
}

// applyEntry sets the registers of a new vCPU to the kernel's entry state.
func applyEntry(s *kvm.Sregs, e boot.Entry) {
	s.CR0, s.CR3, s.CR4, s.EFER = e.CR0, e.CR3, e.CR4, e.EFER
	s.GDT = kvm.DTable{Base: e.GDTBase, Limit: e.GDTLimit}
	s.CS, s.TR = segment(e.Code), segment(e.Task)
	data := segment(e.Data)
	s.DS, s.ES, s.FS, s.GS, s.SS = data, data, data, data, data
}

func segment(e boot.Segment) kvm.Segment {
	bit := func(b bool) uint8 {
		if b {
			return 1
		}
		return 0
	}
	return kvm.Segment{
		Base: uint64(e.Base), Limit: e.Limit, Selector: e.Selector, Type: e.Type,
		Present: 1, S: bit(e.S), L: bit(e.L), DB: bit(e.DB), G: bit(e.G),
	}
}
