// Package testenv defines what a test may require of the computer that it runs on, and how long a
// test may wait.
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

// Patience limits how long a test waits for something that must happen. It only stops a test that
// hangs. It says nothing about speed: an emulated host on a busy machine is slow.
const Patience = 10 * time.Minute

// needs maps each requirement to a function that reports whether the requirement is met, and to the
// remedy for a missing one.
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
	"debian-disk":  {func() bool { return os.Getenv("MINIVMM_DEBIAN_DISK") != "" }, "set MINIVMM_DEBIAN_DISK to an image from minivmm disk debian"},
	"clients-disk": {func() bool { return os.Getenv("MINIVMM_CLIENTS_DISK") != "" }, "set MINIVMM_CLIENTS_DISK to an image from minivmm disk debian, with --include of the clients' packages"},
	"ssh":          {inPath("ssh"), "apt-get install openssh-client"},
	"iasl":         {inPath("iasl"), "apt-get install acpica-tools"},
	"debian":       {inPath("apt-get", "dpkg-deb"), "use a Debian machine"},
	"iperf3":       {inPath("iperf3"), "apt-get install iperf3"},
	"steady-clock": {func() bool { return os.Getenv("MINIVMM_HOST_CLOCK") != "wall" }, "run it in an emulated host with -icount, or on real CPUs"},
	"compiler":     {func() bool { return inPath("go")() && os.Getenv("MINIVMM_HOST_CLOCK") == "" }, "run it outside an emulated host, in which Go compiles for minutes"},
	"test-kernels": {func() bool { return os.Getenv("MINIVMM_TEST_KERNELS") != "" }, "set MINIVMM_TEST_KERNELS to the paths of kernel images, separated by colons"},
	"guests":       {func() bool { return os.Getenv("MINIVMM_GUESTS") != "" }, "set MINIVMM_GUESTS to kernels and modules"},
}

func inPath(programs ...string) func() bool {
	return func() bool {
		return !slices.ContainsFunc(programs, func(program string) bool {
			_, err := exec.LookPath(program)
			return err != nil
		})
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

// Need skips the test if a requirement in names is missing. If MINIVMM_REQUIRE, a list separated by
// commas or spaces, names the requirement, the test fails instead. "make test" lists all
// requirements there.
func Need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		need, ok := needs[name]
		if !ok {
			t.Fatalf("testenv: unknown need %q", name)
		}
		if !need.here() {
			NeedNil(t, name, fmt.Errorf("missing: %s; \"make test\" provides it", need.fix))
		}
	}
}

// NeedNil is Need for a requirement that only the test itself can check: err is the reason why the
// requirement is missing, or nil if it is met.
func NeedNil(t testing.TB, name string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case isRequired(name):
		t.Fatalf("%s is required: %v", name, err)
	default:
		t.Skipf("%s: %v", name, err)
	}
}

// NeedAsked skips the test unless MINIVMM_REQUIRE lists the given requirement. The text in why is
// the reason for not running the test by default.
func NeedAsked(t testing.TB, name, why string) {
	t.Helper()
	if !isRequired(name) {
		t.Skipf("%s: run it with MINIVMM_REQUIRE=%s, or by \"make test\"", why, name)
	}
}

// isRequired reports whether MINIVMM_REQUIRE lists the given requirement.
func isRequired(name string) bool {
	required := strings.FieldsFunc(os.Getenv("MINIVMM_REQUIRE"), func(r rune) bool { return r == ',' || r == ' ' })
	return slices.Contains(required, name)
}
