package e2e

import (
	"os"
	"testing"

	"minivmm/internal/testbed/vmmtest"
)

// Some of the program's exit codes; docs/configuration.md lists all.
const (
	exitUsage     = 2
	exitBusy      = 6
	exitNoMachine = 7
	exitCrashed   = 11
)

func TestMain(m *testing.M) {
	if os.Getenv(realVar) != "" {
		furnish()
	}
	vmmtest.Main(m, scenarios)
}
