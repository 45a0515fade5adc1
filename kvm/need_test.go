package kvm

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// need skips the test if err says that what it needs is missing, unless
// MINIVMM_REQUIRE, a list with commas, asks for it: then it fails.
func need(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("MINIVMM_REQUIRE"), ","), what) {
		t.Fatalf("%s is required: %v", what, err)
	}
	t.Skipf("needs %s: %v", what, err)
}

func needCC(t *testing.T) string {
	t.Helper()
	cc, err := exec.LookPath("gcc")
	need(t, "gcc", err)
	return cc
}

// needKVM returns a System on which a guest of three bytes runs. A node is not
// enough: what KVM there is under some hypervisors cannot run guests.
func needKVM(t *testing.T) *System {
	t.Helper()
	s, err := Open()
	need(t, "kvm", err)
	t.Cleanup(func() { s.Close() })
	need(t, "kvm", tryGuest(s))
	return s
}
