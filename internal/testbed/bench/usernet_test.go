package bench

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// The network that a guest in user space has, the same for all VMMs.
const (
	userGuest   = "10.0.2.15"
	userGateway = "10.0.2.2"
	userBits    = "24"
)

// passtMTU is the best MTU for passt: its guest sends packets of that size, where others send
// segments that the device splits.
const passtMTU = 65520

// userNetScenario obeys commands as trafficScenario does, behind a gateway, and two more: "mtu N",
// and "connect N", which opens N connections one after the other, with an echo over each.
func userNetScenario(g *vmmtest.Guest) error {
	name, err := g.NetUp(userGuest+"/"+userBits, userGateway)
	if err != nil {
		return err
	}
	nic, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return obey(g, func(what string, a, b, _ int) (time.Duration, error) {
		switch what {
		case "mtu":
			return 0, netlink.LinkSetMTU(nic, a)
		case "connect":
			start := time.Now()
			for range a {
				if _, err := overTCP(netCommands["echo"], 1, 1); err != nil {
					return 0, err
				}
			}
			return time.Since(start), nil
		}
		return overTCP(netCommands[what], a, b)
	})
}

// minivmmUser is minivmm with its own network.
func minivmmUser() vmm {
	return vmm{name: "minivmm", user: true, argv: func(bed *bed, m *machine) []string {
		file := bed.path("minivmm.toml")
		text := fmt.Sprintf("[machine]\nmemory = \"%dM\"\nshutdown_timeout = \"1ms\"\n[boot]\nkernel = %q\ninitrd = %q\ncmdline = \"quiet\"\n[[net]]\nbackend = \"user\"\n", guestMiB, bed.kernel, m.initrd)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			m.b.Fatal(err)
		}
		return []string{bed.minivmm, "run", file}
	}}
}

// qemuUser is QEMU with a -netdev.
func qemuUser(name string, netdev func(bed *bed) string) vmm {
	v := qemuMachine("q35", false)
	bare := v.argv
	v.name, v.user = name, true
	v.argv = func(bed *bed, m *machine) []string {
		return append(bare(bed, m), "-netdev", netdev(bed)+",id=n0", "-device", "virtio-net-pci,netdev=n0,romfile=")
	}
	return v
}

// qemuSlirp is QEMU's "user network", libslirp.
func qemuSlirp() vmm {
	return qemuUser("qemu-slirp", func(*bed) string { return "user" })
}

// qemuPasst is QEMU with passt at the other end of a socket.
func qemuPasst() vmm {
	socket := func(bed *bed) string { return bed.path("passt.sock") }
	v := qemuUser("qemu-passt", func(bed *bed) string {
		return "stream,server=off,addr.type=unix,addr.path=" + socket(bed)
	})
	v.peer = func(bed *bed, _ *machine) []string {
		return []string{bed.passt, "--foreground", "--quiet", "--one-off", "--socket", socket(bed), "--ipv4-only",
			"--interface", bed.tap, "--address", userGuest, "--netmask", userBits, "--gateway", userGateway, "--mtu", strconv.Itoa(passtMTU)}
	}
	return v
}

// startPeer starts the peer of a machine, and returns when the peer listens.
func (m *machine) startPeer(bed *bed, argv []string) (end func()) {
	m.b.Helper()
	if argv[0] == "" {
		m.b.Skip("no passt: apt-get install passt")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = bed.environ()
	out := &m.peerLog
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		m.b.Fatal(err)
	}
	socket := bed.path("passt.sock")
	for deadline := time.Now().Add(testenv.Patience); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			m.b.Fatalf("%s did not listen: %s", argv[0], out)
		}
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = os.Remove(socket)
	}
}

// BenchmarkUserNet compares networks in user space: one TCP connection in each direction, four at
// once, an echo of one byte, and connections one after the other. The guest reaches a server at one
// of its host's addresses through its gateway.
func BenchmarkUserNet(b *testing.B) {
	kernel := vmmtest.Kernels(b)[0]
	testenv.Need(b, "kvm")
	bed := newBed(b, kernel.Image)
	bed.copyPasst(b)
	initrd := bed.copy(b, vmmtest.Initrd(b, kernel, "user-net"), "user-net.cpio")
	exits := [2]*counter{newCounter(b, "kvm_exit"), newCounter(b, "kvm_userspace_exit")}

	for _, v := range []vmm{minivmmUser(), qemuSlirp(), qemuPasst()} {
		b.Run(v.name, func(b *testing.B) {
			m := v.start(b, bed, initrd)
			if v.peer != nil {
				m.ask("mtu", passtMTU)
			}
			// Warm up: neighbours, page tables, caches, buffers.
			m.ask("send", 8, 4)
			m.ask("receive", 8, 4)
			m.ask("echo", 100)
			m.ask("connect", 10)

			for _, streams := range []int{1, 4} {
				for _, what := range []string{"send", "receive"} {
					b.Run(fmt.Sprintf("tcp-%s-%d", what, streams), func(b *testing.B) {
						const mib = 32
						run(b, m, exits, func() float64 { return m.ask(what, mib, streams) }, func(ns float64) {
							b.ReportMetric(mib<<23/(ns/1e9)/1e6, "Mb/s")
						})
					})
				}
			}
			for _, c := range []struct {
				what  string
				count int
			}{{"echo", 1000}, {"connect", 200}} {
				b.Run("tcp-"+c.what, func(b *testing.B) {
					run(b, m, exits, func() float64 { return m.ask(c.what, c.count) }, func(ns float64) {
						b.ReportMetric(ns/float64(c.count)/1e3, "us/"+c.what)
					})
				})
			}
		})
	}
}
