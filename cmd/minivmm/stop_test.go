package main

import (
	"bytes"
	"testing"
)

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
