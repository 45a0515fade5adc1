package vmm

import (
	"testing"

	"minivmm/kvm"
)

// supportedSample is an example of what KVM may support: the leaves that are changed, and one that
// is not.
var supportedSample = []kvm.CPUIDEntry{
	{Function: 0, EAX: 0x1f},
	{Function: 1, EBX: 0x55000800, ECX: leaf1ECXVMX | 1},
	{Function: 4, Index: 0, EAX: 0xfc0fc121}, // L1 data
	{Function: 4, Index: 3, EAX: 0xfc0fc163}, // L3
	{Function: 4, Index: 4, EAX: 0},
	{Function: 7, EBX: 0x1234},
	{Function: 0xb, Index: 0, EAX: 99},
	{Function: 0x40000000, EAX: 0x40000001, EBX: 0x4b4d564b},
	{Function: 0x80000001, ECX: ext1ECXSVM},
	{Function: 0x80000008, EAX: 0x3030, ECX: 0x7777},
	{Function: 0x8000000a, EAX: 1, EDX: 0xff},
	{Function: 0x8000001d, Index: 3, EAX: 0x163},
	{Function: 0x8000001e, EAX: 77},
}

func leaf(t *testing.T, entries []kvm.CPUIDEntry, function, index uint32) kvm.CPUIDEntry {
	t.Helper()
	var found []kvm.CPUIDEntry
	for _, e := range entries {
		if e.Function == function && e.Index == index {
			found = append(found, e)
		}
	}
	if len(found) != 1 {
		t.Fatalf("leaf %#x.%d is present %d times", function, index, len(found))
	}
	return found[0]
}

func TestCPUIDDescribesOneSocketOfSingleThreadedCores(t *testing.T) {
	for _, tc := range []struct {
		count  int
		idBits uint32
	}{{1, 0}, {2, 1}, {3, 2}, {4, 2}, {16, 4}, {64, 6}} {
		for id := range tc.count {
			got := vcpuCPUID(supportedSample, id, tc.count, 0)
			one := leaf(t, got, 1, 0)
			if one.EBX>>24 != uint32(id) || one.EBX>>16&0xff != uint32(tc.count) || one.EBX&0xffff != 0x0800 {
				t.Errorf("vCPU %d of %d: leaf 1 EBX %#x", id, tc.count, one.EBX)
			}
			if htt := one.EDX&leaf1EDXHTT != 0; htt != (tc.count > 1) {
				t.Errorf("vCPU %d of %d: HTT %v", id, tc.count, htt)
			}
			for _, function := range []uint32{0xb, 0x1f} {
				smt, core, end := leaf(t, got, function, 0), leaf(t, got, function, 1), leaf(t, got, function, 2)
				if smt.EAX != 0 || smt.EBX != 1 || smt.ECX != 0x100 || smt.EDX != uint32(id) {
					t.Errorf("vCPU %d of %d: leaf %#x.0 %+v", id, tc.count, function, smt)
				}
				if core.EAX != tc.idBits || core.EBX != uint32(tc.count) || core.ECX != 0x201 || core.EDX != uint32(id) {
					t.Errorf("vCPU %d of %d: leaf %#x.1 %+v", id, tc.count, function, core)
				}
				if end.EBX != 0 || end.ECX != 2 {
					t.Errorf("vCPU %d of %d: leaf %#x.2 %+v", id, tc.count, function, end)
				}
			}
			if l1 := leaf(t, got, 4, 0); l1.EAX>>14&0xfff != 0 {
				t.Errorf("vCPU %d of %d: the first level cache is shared: %#x", id, tc.count, l1.EAX)
			}
			if l3 := leaf(t, got, 4, 3); l3.EAX>>14&0xfff != uint32(tc.count-1) || l3.EAX>>26 != uint32(tc.count-1) {
				t.Errorf("vCPU %d of %d: leaf 4.3 %#x", id, tc.count, l3.EAX)
			}
			if l3 := leaf(t, got, 0x8000001d, 3); l3.EAX>>14&0xfff != uint32(tc.count-1) {
				t.Errorf("vCPU %d of %d: leaf 0x8000001d.3 %#x", id, tc.count, l3.EAX)
			}
			if size := leaf(t, got, 0x80000008, 0); size.ECX != tc.idBits<<12|uint32(tc.count-1)|0x700 || size.EAX != 0x3030 {
				t.Errorf("vCPU %d of %d: leaf 0x80000008 %+v", id, tc.count, size)
			}
			if ext := leaf(t, got, 0x8000001e, 0); ext.EAX != uint32(id) {
				t.Errorf("vCPU %d of %d: leaf 0x8000001e %+v", id, tc.count, ext)
			}
		}
	}
}

func TestCPUIDOffersATimerAndNoNestedVirtualization(t *testing.T) {
	got := vcpuCPUID(supportedSample, 0, 1, 0)
	if one := leaf(t, got, 1, 0); one.ECX != 1|leaf1ECXTSCDeadline|leaf1ECXHypervisor {
		t.Errorf("leaf 1 ECX %#x", one.ECX)
	}
	if ext := leaf(t, got, 0x80000001, 0); ext.ECX != 0 {
		t.Errorf("leaf 0x80000001 ECX %#x", ext.ECX)
	}
	if svm := leaf(t, got, 0x8000000a, 0); svm != (kvm.CPUIDEntry{Function: 0x8000000a}) {
		t.Errorf("leaf 0x8000000a %+v", svm)
	}
	if other := leaf(t, got, 7, 0); other.EBX != 0x1234 {
		t.Errorf("leaf 7 was changed: %+v", other)
	}
}

func TestCPUIDHasNoTopologyLeafAboveTheHighest(t *testing.T) {
	supported := []kvm.CPUIDEntry{{Function: 0, EAX: 0xd}, {Function: 1}}
	for _, e := range vcpuCPUID(supported, 0, 2, 0) {
		if e.Function == 0x1f {
			t.Error("leaf 0x1f is above the highest function, 0xd")
		}
	}
	leaf(t, vcpuCPUID(supported, 0, 2, 0), 0xb, 1)
}

func TestCPUIDHasTheFrequencyIfKnown(t *testing.T) {
	for khz, most := range map[int]uint32{0: 0x40000001, 2_599_998: 0x40000010} {
		got := vcpuCPUID(supportedSample, 0, 1, khz)
		if kvm := leaf(t, got, 0x40000000, 0); kvm.EAX != most || kvm.EBX != 0x4b4d564b {
			t.Errorf("%d kHz: leaf 0x40000000 %+v", khz, kvm)
		}
		if khz == 0 {
			continue
		}
		if timing := leaf(t, got, 0x40000010, 0); timing.EAX != uint32(khz) || timing.EBX != 1_000_000 {
			t.Errorf("%d kHz: leaf 0x40000010 %+v", khz, timing)
		}
	}
}

func TestPortsAreCheaperByVendor(t *testing.T) {
	for _, tc := range []struct {
		vendor string
		want   bool
	}{
		{"AuthenticAMD", true}, {"HygonGenuine", true},
		{"GenuineIntel", false}, {"CentaurHauls", false}, {"  Shanghai  ", false}, {"KVMKVMKVM\x00\x00\x00", false},
	} {
		word := func(i int) uint32 {
			return uint32(tc.vendor[i]) | uint32(tc.vendor[i+1])<<8 | uint32(tc.vendor[i+2])<<16 | uint32(tc.vendor[i+3])<<24
		}
		cpuid := []kvm.CPUIDEntry{{Function: 1, EBX: 1}, {EBX: word(0), EDX: word(4), ECX: word(8)}}
		if got := portsAreCheaper(cpuid); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.vendor, got, tc.want)
		}
	}
	if portsAreCheaper(nil) {
		t.Error("ports are cheaper on a host without a vendor")
	}
}
