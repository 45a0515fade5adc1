package proof

import (
	"testing"

	"minivmm/devices/virtio/virtiotest"
)

func needWorkers(t testing.TB) {
	t.Helper()
	virtiotest.Need(t, "vhost-net", "vhost-scsi")
}
