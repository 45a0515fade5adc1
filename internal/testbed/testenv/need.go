// Package testenv says what a test may expect of the machine that it runs on, and how long it may wait.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come. It bounds a test that hangs and measures nothing: a host that is emulated
// on a busy machine is slow.
const Patience = 10 * time.Minute

// needs says, for each thing a test can need, whether it is here and what to do
// when it is not.
var needs = map[string]struct {
	here func() bool
	fix  string
}{
	"kvm":          {canOpen("/dev/kvm"), "modprobe kvm_amd or kvm_intel, and be in group kvm"},
	"vhost-net":    {canOpen("/dev/vhost-net", "/dev/net/tun"), "modprobe vhost_net tun, and be in group kvm"},
	"vhost-scsi":   {canOpen("/dev/vhost-scsi"), "modprobe vhost_scsi, and be root"},
	"loop":         {canOpen("/dev/loop-control"), "modprobe loop, and be root"},
	"tun":          {canOpen("/dev/net/tun"), "modprobe tun, and be root"},
	"root":         {func() bool { return os.Geteuid() == 0 }, "run the tests as root"},
	"sg3-utils":    {inPath("sg_inq"), "apt-get install sg3-utils"},
	"fio":          {inPath("fio"), "apt-get install fio"},
	"losetup":      {inPath("losetup"), "apt-get install mount"},
	"mke2fs":       {inPath("mke2fs"), "apt-get install e2fsprogs"},
	"strace":       {inPath("strace"), "apt-get install strace"},
	"debian-disk":  {func() bool { return os.Getenv("MINIVMM_DEBIAN_DISK") != "" }, "set MINIVMM_DEBIAN_DISK to what minivmm disk debian made"},
	"clients-disk": {func() bool { return os.Getenv("MINIVMM_CLIENTS_DISK") != "" }, "set MINIVMM_CLIENTS_DISK to what minivmm disk debian made with --include of the clients' packages"},
	"ssh":          {inPath("ssh"), "apt-get install openssh-client"},
	"iperf3":       {inPath("iperf3"), "apt-get install iperf3"},
	"steady-clock": {func() bool { return os.Getenv("MINIVMM_HOST_CLOCK") != "wall" }, "run it in an emulated host with -icount, or on real CPUs"},
	"compiler":     {func() bool { return inPath("go")() && os.Getenv("MINIVMM_HOST_CLOCK") == "" }, "run it outside an emulated host, where Go compiles for minutes"},
	"guests":       {func() bool { return os.Getenv("MINIVMM_GUESTS") != "" }, "set MINIVMM_GUESTS to kernels and modules"},
}

func inPath(program string) func() bool {
	return func() bool {
		_, err := exec.LookPath(program)
		return err == nil
	}
}

func canOpen(paths ...string) func() bool {
	return func() bool {
		for _, path := range paths {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return false
			}
			f.Close()
		}
		return true
	}
}

// Need skips the test if something named is missing, unless MINIVMM_REQUIRE, a list with commas or spaces, names it: then the test
// fails. "make test" names everything.
func Need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		need, ok := needs[name]
		if !ok {
			t.Fatalf("testenv: unknown need %q", name)
		}
		if !need.here() {
			NeedNil(t, name, fmt.Errorf("missing: %s; \"make test\" has it", need.fix))
		}
	}
}

// NeedNil is Need for what only the test itself can try: err says why it is missing, nil that it is here.
func NeedNil(t testing.TB, name string, err error) {
	t.Helper()
	required := strings.FieldsFunc(os.Getenv("MINIVMM_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	switch {
	case err == nil:
	case slices.Contains(required, name):
		t.Fatalf("%s is required: %v", name, err)
	default:
		t.Skipf("%s: %v", name, err)
	}
}
