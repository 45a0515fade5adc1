package kvm

import (
	"os/exec"
	"testing"

	"minivmm/internal/testbed/testenv"
)

func needCC(t *testing.T) string {
	t.Helper()
	cc, err := exec.LookPath("gcc")
	testenv.NeedNil(t, "gcc", err)
	return cc
}

// needKVM returns a System on which a guest of three bytes runs. A device node is not enough: under
// some hypervisors KVM exists but cannot run guests.
func needKVM(t *testing.T) *System {
	t.Helper()
	s, err := Open()
	testenv.NeedNil(t, "kvm", err)
	t.Cleanup(func() { s.Close() })
	testenv.NeedNil(t, "kvm", tryGuest(s))
	return s
}
