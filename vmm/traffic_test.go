package vmm_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
	"minivmm/vhost/lio"
)

// trafficMachine has a NIC on a new tap, and a disk.
type trafficMachine struct {
	*vmmtest.Machine
	t        testing.TB
	image    string
	listener net.Listener
}

const diskSerial = "traffic-disk-01"

// backends selects the backends of a machine's devices. What a guest can do, and the effect of its
// errors, must be the same with all of them.
type backends struct {
	name           string
	net, disk      string   // configuration lines
	needs          []string // of vmmtest.Need
	guest, gateway string
}

var (
	inKernel = backends{
		name: "vhost", needs: []string{"vhost-net", "vhost-scsi"},
		net: "backend = \"vhost\"\naddress = \"10.77.0.1/24\"", disk: `backend = "vhost-scsi"`,
		guest: "10.77.0.2/24",
	}
	inProcess = backends{
		name: "inprocess", needs: []string{"kvm"},
		net: `backend = "user"`, disk: `backend = "inprocess"`,
		guest: "10.0.2.15/24", gateway: "10.0.2.2",
	}
)

// serving is a guest kernel with the backends of its devices.
type serving struct {
	vmmtest.Kernel
	backends
}

// String returns the name of the subtest.
func (s serving) String() string { return s.Kernel.Name + "/" + s.backends.name }

// servings returns the default guest kernel, which differs between the hosts, with its devices in
// the kernel and in process.
func servings(t testing.TB) []serving {
	k := vmmtest.Kernels(t)[0]
	return []serving{{k, inKernel}, {k, inProcess}}
}

func bootTraffic(t testing.TB, s serving, vcpus, imageMiB int) *trafficMachine {
	t.Helper()
	return bootServing(t, s, "traffic", vcpus, imageMiB)
}

// bootServing boots a scenario that has the arguments of trafficScenario and prints "disk" and
// "next?" as it does.
func bootServing(t testing.TB, s serving, scenario string, vcpus, imageMiB int) *trafficMachine {
	t.Helper()
	testenv.Need(t, s.needs...)
	m := &trafficMachine{t: t, image: filepath.Join(t.TempDir(), "disk.img")}
	if err := os.WriteFile(m.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(m.image, int64(imageMiB)<<20); err != nil {
		t.Fatal(err)
	}
	cfg := parse(t, `
[machine]
vcpus = %d
[boot]
kernel  = %q
initrd  = %q
cmdline = "quiet"
[[net]]
%s
[[disk]]
%s
path   = %q
serial = %q
`, vcpus, s.Image, vmmtest.Initrd(t, s.Kernel, scenario, s.guest, "10.77.0.1:7700", diskSerial, s.gateway),
		s.net, s.disk, m.image, diskSerial)
	m.Machine = vmmtest.Boot(t, cfg)
	if s.gateway != "" {
		haveAddress(t, "10.77.0.1/32")
	}
	var err error
	m.listener, err = net.Listen("tcp", "10.77.0.1:7700")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.listener.Close() })
	m.Expect(`disk /dev/sd`)
	return m
}

// haveAddress adds an address to this host for the duration of the test, if no tap provides one.
func haveAddress(t testing.TB, cidr string) {
	t.Helper()
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.AddrDel(lo, addr); err != nil {
			t.Error(err)
		}
	})
}

// transfer moves mib MiB in one of the four ways and compares the checksums of both ends.
func (m *trafficMachine) transfer(what string, mib int) {
	m.t.Helper()
	m.Expect(`next\?`)
	m.Send(fmt.Sprintf("%s %d\n", what, mib))
	sum := sha256.New()
	switch what {
	case "send", "receive":
		conn, err := m.listener.Accept()
		if err != nil {
			m.t.Fatal(err)
		}
		if what == "send" {
			_, err = io.Copy(sum, conn)
		} else {
			_, err = io.Copy(io.MultiWriter(conn, sum), stream(mib))
		}
		if err = firstError(err, conn.Close()); err != nil {
			m.t.Fatal(err)
		}
		got := m.Expect(what + ` ([0-9a-f]{64}) in`)[1]
		if want := hex.EncodeToString(sum.Sum(nil)); got != want {
			m.t.Fatalf("%s %d MiB: guest's checksum %s, host's %s", what, mib, got, want)
		}
	case "write", "read":
		got := m.Expect(what + ` ([0-9a-f]{64}) in`)[1]
		f, err := os.Open(m.image)
		if err != nil {
			m.t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.Copy(sum, io.LimitReader(f, int64(mib)<<20)); err != nil {
			m.t.Fatal(err)
		}
		if want := hex.EncodeToString(sum.Sum(nil)); got != want {
			m.t.Fatalf("%s %d MiB: guest's checksum %s, the image's %s", what, mib, got, want)
		}
	}
}

func (m *trafficMachine) quit() {
	m.t.Helper()
	m.Expect(`next\?`)
	m.Send("quit\n")
	m.Succeed()
}

// userExits returns how often vCPUs have left the kernel for minivmm so far.
func userExits(m *trafficMachine) (n uint64) {
	m.t.Helper()
	r, err := m.Report()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, exits := range r.KVM.UserExits {
		n += exits
	}
	return n
}

// TestTrafficNeedsNoExit moves data over network and disk, both ways, with checksums at both ends,
// and counts the exits to user space: they must not grow with the number of packets or requests.
func TestTrafficNeedsNoExit(t *testing.T) {
	const mib = 16
	for _, s := range servings(t) {
		t.Run(s.String(), func(t *testing.T) {
			if s.gateway != "" {
				haveAddress(t, outsideAddr.String()+"/128")
			}
			m := bootTraffic(t, s, 1, mib)
			if s.gateway != "" {
				m.ipv6()
			}
			for _, what := range []string{"send", "receive", "write", "read"} {
				m.transfer(what, 1) // warms up ARP, TCP and caches
				before := userExits(m)
				m.transfer(what, mib)
				exits := userExits(m) - before
				// The command, its echo and the answer go over the serial port: about 250 bytes
				// at two exits per byte. 16 MiB are 11 000 packets or 256 requests of 64 KiB.
				t.Logf("%-8s %d MiB: %d exits to user space", what, mib, exits)
				if exits > 900 {
					t.Errorf("%s: %d exits to user space during %d MiB", what, exits, mib)
				}
			}
			m.quit()
		})
	}
}

// TestNothingIsLeftBehind closes a machine with all devices and checks that nothing it created is
// left.
func TestNothingIsLeftBehind(t *testing.T) {
	s := servings(t)[0]
	testenv.Need(t, s.needs...)
	// Objects that the kernel keeps after the first use of LIO belong to no machine.
	if _, err := lio.Usable(); err != nil {
		t.Fatal(err)
	}
	before := leftovers(t)
	t.Run("machine", func(t *testing.T) {
		m := bootTraffic(t, s, 1, 1)
		during := leftovers(t)
		if slices.Equal(before, during) {
			t.Error("a running machine has no tap or LIO object: the test looks in the wrong place")
		}
		m.quit()
	})
	if after := leftovers(t); !slices.Equal(before, after) {
		t.Errorf("before %v\nafter %v", before, after)
	}
}

// leftovers lists what a VM creates outside its process, and its descriptors.
func leftovers(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{
		"/sys/class/net/*", "/sys/kernel/config/target/core/*", "/sys/kernel/config/target/core/*/*",
		"/sys/kernel/config/target/vhost/*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}
