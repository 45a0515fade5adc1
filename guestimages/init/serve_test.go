package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/guestimages/agent"
	"minivmm/internal/testbed/testenv"
)

func TestOnlyAPlanThatSaysSoOpensKVM(t *testing.T) {
	testenv.Need(t, "kvm")
	for _, hold := range []bool{false, true} {
		release, err := holdVM(agent.Plan{HoldVM: hold})
		if err != nil && !hold {
			t.Fatal(err)
		}
		if err != nil {
			testenv.NeedNil(t, "kvm", err)
		}
		files, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		var open string
		for _, f := range files {
			if target, err := os.Readlink(f); err == nil && strings.Contains(target, "kvm") {
				open += target + " "
			}
		}
		if (open != "") != hold {
			t.Errorf("with HoldVM %v, open files: %s", hold, open)
		}
		release()
	}
}
