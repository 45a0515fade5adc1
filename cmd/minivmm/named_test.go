package main

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"minivmm/vmm/control"
)

// TestDefaultNames takes the default name and then claims it for a machine without a name and for one that was given it.
func TestDefaultNames(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	first, err := control.Claim("vm")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := claimName("vm", true, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if want := fmt.Sprintf("vm-%d", os.Getpid()); second.String() != want {
		t.Errorf("the second machine is %q; want %q", second, want)
	}
	var taken *control.TakenError
	if _, err := claimName("vm", false, t.Logf); !errors.As(err, &taken) {
		t.Errorf("the default name, given: %v", err)
	}
}
