package vhost

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

func needNet(t *testing.T) *Net {
	t.Helper()
	n, err := OpenNet()
	need(t, "vhost-net", err)
	t.Cleanup(func() { n.Close() })
	return n
}

func needScsi(t *testing.T) *Scsi {
	t.Helper()
	s, err := OpenScsi()
	need(t, "vhost-scsi", err)
	t.Cleanup(func() { s.Close() })
	return s
}
