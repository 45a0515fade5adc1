package virtiotest

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// needs says, for each thing a device's test can need of the host, how to find
// out whether it is here and what to do when it is not.
var needs = map[string]struct {
	nodes []string
	fix   string
}{
	"vhost-net":  {[]string{"/dev/vhost-net", "/dev/net/tun"}, "modprobe vhost_net tun, and be root"},
	"vhost-scsi": {[]string{"/dev/vhost-scsi"}, "modprobe vhost_scsi, and be root"},
	"root":       {nil, "be root"},
	"loop":       {[]string{"/dev/loop-control"}, "modprobe loop, and be root"},
}

// Need skips the test when something named is missing, unless the environment's
// MINIVMM_REQUIRE, a list with spaces or commas, asks for it: then it fails.
// All of it needs root.
func Need(t testing.TB, names ...string) {
	t.Helper()
	required := strings.FieldsFunc(os.Getenv("MINIVMM_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	for _, name := range names {
		need, ok := needs[name]
		if !ok {
			t.Fatalf("virtiotest: nothing is known about needing %q", name)
		}
		here := os.Getuid() == 0
		for _, node := range need.nodes {
			f, err := os.OpenFile(node, os.O_RDWR, 0)
			if err == nil {
				f.Close()
			}
			here = here && err == nil
		}
		switch {
		case here:
		case slices.Contains(required, name):
			t.Fatalf("%s is required and missing: %s", name, need.fix)
		default:
			t.Skipf("%s is missing: %s", name, need.fix)
		}
	}
}
