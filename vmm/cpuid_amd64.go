package vmm

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"minivmm/kvm"
	"minivmm/vmm/config"
)

// CPUID bits that vcpuCPUID changes (Intel SDM vol. 2A; AMD APM vol. 3 app. E).
const (
	leaf1ECXVMX         = 1 << 5
	leaf1ECXTSCDeadline = 1 << 24
	leaf1ECXHypervisor  = 1 << 31
	leaf1EDXHTT         = 1 << 28
	ext1ECXCmpLegacy    = 1 << 1
	ext1ECXSVM          = 1 << 2
	levelSMT, levelCore = 1, 2

	// hypervisorLeaf has the hypervisor's name and the number of its highest leaf.
	// hypervisorTiming, which VMware introduced, has the frequencies of the time stamp counter and
	// the local APIC timer in kHz. Systems that do not read minivmm's kernel parameters, such as
	// FreeBSD, use these frequencies.
	hypervisorLeaf   = 0x4000_0000
	hypervisorTiming = 0x4000_0010
	apicBusKHz       = 1_000_000 // APIC_BUS_FREQUENCY, arch/x86/kvm/lapic.h
)

// vcpuCPUID returns the CPUID of vCPU number id, out of count vCPUs. The result is what KVM
// supports, with these changes: the topology is one socket with count cores and no hyperthreads,
// the timer needs no calibration, and there is no nested virtualization. tscKHz is 0 if the host
// does not report the frequency.
func vcpuCPUID(supported []kvm.CPUIDEntry, id, count, tscKHz int) []kvm.CPUIDEntry {
	out := make([]kvm.CPUIDEntry, 0, len(supported)+4)
	idBits := uint32(bits.Len(uint(count - 1))) // bits of an APIC ID that select the core
	others := uint32(count - 1)
	for _, e := range supported {
		switch e.Function {
		case 1:
			e.EBX = e.EBX&0x0000ffff | uint32(id)<<24 | uint32(min(count, 255))<<16
			e.ECX = e.ECX&^leaf1ECXVMX | leaf1ECXTSCDeadline | leaf1ECXHypervisor
			e.EDX &^= leaf1EDXHTT
			if count > 1 {
				e.EDX |= leaf1EDXHTT
			}
		case 4: // caches (Intel): all cores share the last level
			e.EAX = e.EAX & 0x3fff
			if e.EAX&0x1f != 0 {
				e.EAX |= min(others, 63) << 26
				if e.EAX>>5&7 >= 3 {
					e.EAX |= others << 14
				}
			}
		case 0x8000001d: // caches (AMD)
			e.EAX = e.EAX & 0x3fff
			if e.EAX&0x1f != 0 && e.EAX>>5&7 >= 3 {
				e.EAX |= others << 14
			}
		case 0xb, 0x1f:
			continue // topology: added below
		case hypervisorLeaf:
			if tscKHz != 0 {
				e.EAX = hypervisorTiming
				out = append(out, kvm.CPUIDEntry{Function: hypervisorTiming, EAX: uint32(tscKHz), EBX: apicBusKHz})
			}
		case 0x80000001:
			e.ECX &^= ext1ECXSVM | ext1ECXCmpLegacy
			if count > 1 {
				e.ECX |= ext1ECXCmpLegacy
			}
		case 0x80000008:
			e.ECX = e.ECX&^0xf0ff | idBits<<12 | min(others, 255)
		case 0x8000000a:
			e.EAX, e.EBX, e.ECX, e.EDX = 0, 0, 0, 0 // SVM
		case 0x8000001e:
			e.EAX, e.EBX, e.ECX, e.EDX = uint32(id), uint32(id)&0xff, 0, 0
		}
		out = append(out, e)
	}
	for _, function := range []uint32{0xb, 0x1f} {
		if leaf0(supported).EAX < function {
			continue
		}
		topology := func(index, shift, logical, level uint32) kvm.CPUIDEntry {
			return kvm.CPUIDEntry{
				Function: function, Index: index, Flags: kvm.CPUIDSignificantIndex,
				EAX: shift, EBX: logical, ECX: level<<8 | index, EDX: uint32(id),
			}
		}
		out = append(out,
			topology(0, 0, 1, levelSMT),
			topology(1, idBits, uint32(count), levelCore),
			topology(2, 0, 0, 0))
	}
	return out
}

// leaf0 returns leaf 0, which has the number of the highest basic leaf and the CPU's vendor.
func leaf0(entries []kvm.CPUIDEntry) kvm.CPUIDEntry {
	i := slices.IndexFunc(entries, func(e kvm.CPUIDEntry) bool { return e.Function == 0 })
	if i < 0 {
		return kvm.CPUIDEntry{}
	}
	return entries[i]
}

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

// portsAreCheaper reports whether a guest's write to an I/O port costs KVM less than a write to
// memory. This is so on hosts with SVM. There, a write to unbacked memory is a page fault that
// reports only the address, so KVM walks the guest's page tables, fetches the instruction and
// decodes it to learn the value before it looks for the eventfd. An exit for a port reports port,
// size and value (APM vol. 2 §15.10.2). This saves about 2 500 of the 50 000 instructions of a disk
// request (docs/performance.md). With VMX both writes are cheap: KVM looks for eventfds that match
// any write, as ours do, before it decodes anything (KVM_FAST_MMIO_BUS, arch/x86/kvm/vmx/vmx.c,
// handle_ept_misconfig).
func portsAreCheaper(supported []kvm.CPUIDEntry) bool {
	var vendor []byte
	host := leaf0(supported)
	for _, r := range []uint32{host.EBX, host.EDX, host.ECX} {
		vendor = binary.LittleEndian.AppendUint32(vendor, r)
	}
	return string(vendor) == "AuthenticAMD" || string(vendor) == "HygonGenuine"
}
