package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/clitest"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// refused runs a program that must exit with a code, print all wanted texts on stderr, and print
// nothing on stdout. Nothing may be left behind.
func refused(t *testing.T, cmd *exec.Cmd, code int, wants ...string) {
	t.Helper()
	before := leftovers(t)
	got, out, errs := clitest.Finish(t, cmd)
	if got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	for _, want := range wants {
		if !strings.Contains(errs, want) {
			t.Errorf("want %q in stderr", want)
		}
	}
	// A kernel image that was written just now is not cached; a line reports it.
	lines := strings.Count(errs, "\n") - strings.Count(errs, "cannot be cached for the next start")
	if out != "" || !strings.HasPrefix(errs, "minivmm: ") || lines != 1 {
		t.Errorf("stdout is %q; want one line of minivmm's on stderr", out)
	}
	t.Logf("stderr: %s", errs)
	var after []string
	if !clitest.Eventually(func() bool { after = leftovers(t); return fmt.Sprint(after) == fmt.Sprint(before) }) {
		t.Errorf("the host had %q before and has %q after", before, after)
	}
}

// TestWhatTheHostLacksIsNamed removes one thing after the other. Each message must name the device,
// the cause and the remedy.
func TestWhatTheHostLacksIsNamed(t *testing.T) {
	testenv.Need(t, "kvm", "vhost-net", "vhost-scsi", "guests", "root")
	owned, free := newTap(t, nobody), newTap(t, 0)
	taken := holdTap(t, newTap(t, 0))
	address(t, free, "10.98.7.1/24")
	cache := t.TempDir() // without an unpacked kernel
	if err := errors.Join(os.Chmod(filepath.Dir(cache), 0o755), os.Chown(cache, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	// The tests' own kernels may be in a home folder that only its owner can enter.
	kernel := filepath.Join(t.TempDir(), "vmlinuz")
	image, err := os.ReadFile(vmmtest.Kernels(t)[0].Image)
	if err == nil {
		err = errors.Join(os.Chmod(filepath.Dir(kernel), 0o755), os.WriteFile(kernel, image, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	readOnly := filepath.Join(t.TempDir(), "disk.img") // on a read-only file system
	if err := unix.Mount("none", filepath.Dir(readOnly), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(filepath.Dir(readOnly), unix.MNT_DETACH) })
	if err := errors.Join(os.WriteFile(readOnly, make([]byte, 1024), 0o644),
		unix.Mount("", filepath.Dir(readOnly), "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	const all = "null=666 kvm=666 net/tun=666 vhost-net=666 vhost-scsi=666"
	without := func(node string) string {
		var rest []string
		for _, word := range strings.Fields(all) {
			if !strings.HasPrefix(word, node+"=") {
				rest = append(rest, word)
			}
		}
		return strings.Join(rest, " ")
	}
	for _, tt := range []struct {
		name  string
		dev   string // the contents of /dev; "": the host's
		uid   int    // 0: root
		args  string
		code  int
		wants []string
	}{
		{"kvm is not the user's", without("kvm") + " kvm=600", nobody, "", 5, []string{"open /dev/kvm: permission denied", "usermod -aG kvm"}},
		{"no kvm", without("kvm"), 0, "", 4, []string{"open /dev/kvm: no such file", "modprobe kvm_"}},
		{"no vhost-net", without("vhost-net"), 0, "--net vhost", 4, []string{"net0: open /dev/vhost-net: no such file", "modprobe vhost_net"}},
		{"vhost-net is not the user's", without("vhost-net") + " vhost-net=600", nobody, "--net vhost,tap=" + owned, 5, []string{"net0: open /dev/vhost-net: permission denied", "chgrp kvm"}},
		{"no tun", without("net/tun"), 0, "--net vhost", 4, []string{"net0: open /dev/net/tun: no such file", "modprobe tun"}},
		{"a tap may not be made", all, nobody, "--net vhost", 5, []string{"net0: TUNSETIFF a new tap: operation not permitted", "CAP_NET_ADMIN", "ip tuntap add"}},
		{"a tap is another user's", all, nobody, "--net vhost,tap=" + free, 5, []string{"net0: TUNSETIFF " + free + ": operation not permitted", "ip tuntap add dev " + free}},
		{"tun is not the user's", without("net/tun") + " net/tun=600", nobody, "--net vhost", 5, []string{"net0: open /dev/net/tun: permission denied", "chmod 666 /dev/net/tun"}},
		{"no such tap", "", 0, "--net vhost,tap=mvmnone", 4, []string{"net0: tap mvmnone: no such device", "ip tuntap add dev mvmnone mode tap"}},
		{"a tap that is none", "", 0, "--net vhost,tap=lo", 4, []string{"net0: tap lo: no such device", `has type "device"`}},
		{"a tap in use", "", 0, "--net vhost,tap=" + taken, 6, []string{"net0: TUNSETIFF " + taken, "device or resource busy", "another program has this tap open"}},
		{"an address in use", "", 0, "--net vhost,address=10.98.7.1/24", 6, []string{"net0: ", "10.98.7.1", free + " already has it"}},
		{"no such bridge", "", 0, "--net vhost,bridge=mvmbr", 4, []string{"net0: ", "bridge mvmbr: no such device", "ip link add mvmbr type bridge"}},
		{"no vhost-scsi", without("vhost-scsi"), 0, "--disk disk.img,backend=vhost-scsi", 4, []string{"scsi0: open /dev/vhost-scsi: no such file", "modprobe vhost_scsi"}},
		{"a disk for a user without rights", all, nobody, "--disk disk.img,backend=vhost-scsi", 5, []string{"scsi0: ", "/sys/kernel/config/target", "permission denied", "needs root"}},
		{"a disk that a user may only read", all, nobody, "--disk read.img,backend=inprocess", 5, []string{"scsi0: ", "read.img: permission denied", "readonly = true"}},
		{"a disk on a read-only file system", "", 0, "--disk " + readOnly, 3, []string{"scsi0: ", readOnly + ": read-only file system", "readonly = true"}},
		{"a disk that vhost-scsi cannot open", "", 0, "--disk " + readOnly + ",readonly,backend=vhost-scsi", 3, []string{"scsi0: ", readOnly + ": read-only file system", "opens a file for writing", "inprocess"}},
		{"a port that is not for users", all, nobody, "--net user,ports=80:80", 5, []string{"net0: port [::]:80:80/tcp", "permission denied", "ports below 1024", "publish a higher port"}},
		{"a kernel that is none", "", 0, "--kernel disk.img", 3, []string{"kernel ", "disk.img"}},
		{"a CPU that is not there", "", 0, "affinity.toml --net auto", 4, []string{"net0: ", "workers.affinity [1000]: no such device", "none of these CPUs is online"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"run"}, strings.Fields(tt.args)...)
			if !strings.Contains(tt.args, "--kernel") {
				args = append(args, "--kernel", kernel)
			}
			cmd := realProgram(t, args...)
			if err := errors.Join(os.WriteFile(filepath.Join(cmd.Dir, "affinity.toml"), []byte("boot.kernel = 'disk.img'\nworkers.affinity = '1000'\n"), 0o666),
				os.WriteFile(filepath.Join(cmd.Dir, "read.img"), make([]byte, 1024), 0o644)); err != nil {
				t.Fatal(err)
			}
			if tt.dev != "" {
				inPlaceOf(t, cmd, devVar+"="+tt.dev)
				cmd.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
			}
			if tt.uid != 0 {
				inPlaceOf(t, cmd, fmt.Sprintf("%s=%d", uidVar, tt.uid), "XDG_CACHE_HOME="+cache)
			}
			refused(t, cmd, tt.code, tt.wants...)
		})
	}
}

// newTap creates a tap that exists until the test ends, with its link up. owner -1 means no owner.
func newTap(t *testing.T, owner int) (name string) {
	t.Helper()
	fd, name := openTap(t, "mvmtest%d")
	defer unix.Close(fd)
	if owner >= 0 {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, owner); err != nil {
			t.Fatalf("TUNSETOWNER: %v", err)
		}
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		t.Fatalf("TUNSETPERSIST: %v", err)
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			t.Error(err)
		}
	})
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	return name
}

func openTap(t *testing.T, name string) (fd int, got string) {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		t.Fatalf("TUNSETIFF %s: %v", name, err)
	}
	return fd, req.Name()
}

// holdTap keeps a tap open until the test ends.
func holdTap(t *testing.T, name string) string {
	t.Helper()
	fd, _ := openTap(t, name)
	t.Cleanup(func() { unix.Close(fd) })
	return name
}

func address(t *testing.T, name, cidr string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
}
