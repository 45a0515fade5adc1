package vhost

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

func needNet(t *testing.T) *Net {
	t.Helper()
	n, err := OpenNet()
	testenv.NeedNil(t, "vhost-net", err)
	t.Cleanup(func() { n.Close() })
	return n
}

func needScsi(t *testing.T) *Scsi {
	t.Helper()
	s, err := OpenScsi()
	testenv.NeedNil(t, "vhost-scsi", err)
	t.Cleanup(func() { s.Close() })
	return s
}
