package vmm

import (
	"encoding/binary"

	"minivmm/kvm"
	"minivmm/vmm/config"
)

// cheapestNotify returns the notification method that costs drivers less on this host. Without KVM
// the choice does not matter: no machine starts.
func cheapestNotify() config.Notify {
	sys, err := kvm.Open()
	if err != nil {
		return config.NotifyMemory
	}
	defer sys.Close()
	if supported, err := sys.SupportedCPUID(); err == nil && portsAreCheaper(supported) {
		return config.NotifyPorts
	}
	return config.NotifyMemory
}

// portsAreCheaper reports whether a guest's write to an I/O port reaches KVM at less cost than a
// write to memory: true on hosts with SVM. There a write to unbacked memory is a page fault that
// reports only the address, so KVM walks the guest's page tables, fetches the instruction and
// decodes it to learn the value before it looks for the eventfd; an exit for a port reports port,
// size and value (APM vol. 2 §15.10.2). The difference is about 2 500 instructions of a disk
// request's 50 000 (docs/performance.md). With VMX both are short: KVM looks for eventfds that
// match any write, as ours do, before it decodes anything (KVM_FAST_MMIO_BUS,
// arch/x86/kvm/vmx/vmx.c, handle_ept_misconfig).
//
// supported is the CPUID that KVM reports: the host's vendor is in leaf 0.
func portsAreCheaper(supported []kvm.CPUIDEntry) bool {
	for _, e := range supported {
		if e.Function == 0 {
			var vendor []byte
			for _, r := range []uint32{e.EBX, e.EDX, e.ECX} {
				vendor = binary.LittleEndian.AppendUint32(vendor, r)
			}
			return string(vendor) == "AuthenticAMD" || string(vendor) == "HygonGenuine"
		}
	}
	return false
}
