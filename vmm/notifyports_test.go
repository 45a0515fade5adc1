package vmm

import (
	"testing"

	"minivmm/kvm"
	"minivmm/vmm/config"
)

func TestWhoGetsPortsForNotifications(t *testing.T) {
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
		for notify, want := range map[config.Notify]bool{config.NotifyAuto: tc.want, config.NotifyPorts: true, config.NotifyMemory: false} {
			if got := notifyPorts(notify, cpuid); got != want {
				t.Errorf("%q, %s: %v, want %v", tc.vendor, notify, got, want)
			}
		}
	}
	if portsAreCheaper(nil) {
		t.Error("ports are cheaper on a host without a vendor")
	}
}
