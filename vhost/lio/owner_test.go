package lio

import (
	"os/exec"
	"testing"
	"time"
)

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
	for deadline := time.Now().Add(2 * time.Minute); own.alive(); {
		if time.Now().After(deadline) {
			t.Fatal("a zombie counts as alive")
		}
	}
	child.Wait()
}
