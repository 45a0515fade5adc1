package proof

import (
	"testing"

	"minivmm/internal/testbed/testenv"
)

func needWorkers(t testing.TB) {
	t.Helper()
	testenv.Need(t, "root", "vhost-net", "vhost-scsi")
}
