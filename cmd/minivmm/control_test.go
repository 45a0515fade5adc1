package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"minivmm/internal/testbed/clitest"
	"minivmm/vmm"
	"minivmm/vmm/config"
	"minivmm/vmm/control"
)

// TestDefaultNames takes the default name, then claims it for a machine without a name and for a
// machine that was given this name.
func TestDefaultNames(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	var first *control.Name
	var err error
	// Root's machines share one folder: another machine of this host may have the name for a while.
	if !clitest.Eventually(func() bool { first, err = control.Claim("vm"); return err == nil }) {
		t.Fatal(err)
	}
	defer first.Close()
	second := runner{anyName: true, plan: vmm.Plan{Config: config.Config{Name: "vm"}}, log: io.Discard}
	if err := second.claimName(); err != nil {
		t.Fatal(err)
	}
	defer second.name.Close()
	if want := fmt.Sprintf("vm-%d", os.Getpid()); second.name.String() != want || string(second.plan.Name) != want {
		t.Errorf("the second machine is %q, %q; want %q", second.name, second.plan.Name, want)
	}
	third := runner{plan: vmm.Plan{Config: config.Config{Name: "vm"}}, log: io.Discard}
	var taken *control.TakenError
	if err := third.claimName(); !errors.As(err, &taken) {
		t.Errorf("the default name, given explicitly: %v", err)
	}
}

// TestStopFromOutside stops a machine through its control socket: like SIGTERM, or at once.
func TestStopFromOutside(t *testing.T) {
	for _, test := range []struct {
		guest  string
		code   int
		button bool
	}{
		{"stopped", 0, true},
		{"stopped now", 128 + 15, false},
	} {
		cmd := program(t, test.guest, "run", "slow.toml")
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != test.code || bytes.Contains(out, []byte("pressed the guest's power button")) != test.button {
			t.Errorf("%s: exit code %d, %s", test.guest, code, out)
		}
	}
}
