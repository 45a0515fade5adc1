package lio

import (
	"os/exec"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	for _, tc := range []struct {
		stat, state string
		start       uint64
		ok          bool
	}{
		{"7 (init) S 0 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0", "S", 4242, true},
		{"7 (a) b) Z 0 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 99 0 0", "Z", 99, true},
		{"7 (init) S 0 7", "", 0, false},
		{"", "", 0, false},
	} {
		state, start, err := parseStat(tc.stat)
		if state != tc.state || start != tc.start || (err == nil) != tc.ok {
			t.Errorf("parseStat(%q) = %q, %d, %v", tc.stat, state, start, err)
		}
	}
}

// TestAZombieIsGone: a killed minivmm whose parent has not yet waited for it
// must not keep its leftovers.
func TestAZombieIsGone(t *testing.T) {
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	own, err := findOwner(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !own.alive() {
		t.Error("a running process is not alive")
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); own.alive(); {
		if time.Now().After(deadline) {
			t.Fatal("a zombie counts as alive")
		}
	}
	child.Wait()
}
