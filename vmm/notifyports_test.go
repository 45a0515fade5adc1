package vmm

import (
	"testing"

	"minivmm/kvm"
)

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
