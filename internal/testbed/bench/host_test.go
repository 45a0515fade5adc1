package bench

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"minivmm/guestimages/cache"
	"minivmm/guestimages/kernel"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bed holds what all machines of a run share: the tap, and a folder in memory with every file that
// is read, so that no disk is measured.
type bed struct {
	dir     string
	kernel  string
	minivmm string
	qemu    string // "" without QEMU
	passt   string // "" without passt, or if it is not needed
	tap     string
}

const tapName = "benchtap"

func newBed(b *testing.B, kernel string) *bed {
	b.Helper()
	bed := &bed{dir: b.TempDir(), tap: tapName}
	if err := unix.Mount("bench", bed.dir, "tmpfs", 0, ""); err != nil {
		b.Fatalf("mount tmpfs: %v", err)
	}
	b.Cleanup(func() { _ = unix.Unmount(bed.dir, unix.MNT_DETACH) })
	binary := os.Getenv("MINIVMM_BINARY")
	if binary == "" {
		b.Fatal("MINIVMM_BINARY is not set: set it to the program from CGO_ENABLED=0 go build ./cmd/minivmm")
	}
	bed.minivmm = bed.copy(b, binary, "minivmm")
	bed.kernel = bed.copy(b, kernel, "bzImage")
	bed.copyQEMU(b)
	bed.makeTap(b)
	return bed
}

// copyStore copies the files of a default guest, except its initial RAM file system.
func (bed *bed) copyStore(b *testing.B) {
	b.Helper()
	c, err := cache.Open(nil)
	if err != nil {
		b.Fatal(err)
	}
	k, err := kernel.Open(c).Find("")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"kernels/index.json", "kernels/" + k.ID, "answers", "packages/busybox-static"} {
		to := bed.path("cache/" + name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.Command("cp", "-r", c.Path(name), to).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
	}
}

func (bed *bed) path(name string) string { return filepath.Join(bed.dir, name) }

func (bed *bed) copy(b *testing.B, from, name string) string {
	b.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		b.Fatal(err)
	}
	to := bed.path(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		b.Fatal(err)
	}
	return to
}

// firmware lists the files that the machine types below read.
var firmware = []string{
	"/usr/share/seabios/bios-256k.bin", "/usr/share/seabios/bios-microvm.bin",
	"/usr/share/qemu/qboot.rom", "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin", "/usr/share/qemu/pvh.bin",
}

// copyQEMU copies QEMU with its libraries.
func (bed *bed) copyQEMU(b *testing.B) {
	b.Helper()
	name := os.Getenv("MINIVMM_QEMU")
	if name == "" {
		name = "qemu-system-x86_64"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		b.Logf("no QEMU to compare with: %v", err)
		return
	}
	for _, f := range firmware {
		bed.copy(b, f, "qemu/share/"+filepath.Base(f))
	}
	bed.qemu = bed.copyProgram(b, path)
}

// copyPasst copies passt, and its build for the emulated host's CPU, which passt looks for in its
// own folder. passt runs as nobody, who must be able to reach its socket.
func (bed *bed) copyPasst(b *testing.B) {
	b.Helper()
	path, err := exec.LookPath("passt")
	if err != nil {
		b.Logf("no passt to compare with: %v", err)
		return
	}
	bed.passt = bed.copyProgram(b, path)
	if _, err := os.Stat(path + ".avx2"); err == nil {
		bed.copyProgram(b, path+".avx2")
	}
	if err := os.Chmod(filepath.Dir(bed.dir), 0o711); err != nil {
		b.Fatal(err)
	}
}

// copyProgram copies a program with its libraries.
func (bed *bed) copyProgram(b *testing.B, path string) string {
	b.Helper()
	out, err := exec.Command("ldd", path).Output()
	if err != nil {
		b.Fatalf("ldd %s: %v", path, err)
	}
	for _, m := range regexp.MustCompile(`=> (/\S+)`).FindAllSubmatch(out, -1) {
		bed.copy(b, string(m[1]), "lib/"+filepath.Base(string(m[1])))
	}
	return bed.copy(b, path, "bin/"+filepath.Base(path))
}

// environ is the environment of the programs of the bed. They must read nothing from the host's
// disk, not even /etc/localtime.
func (bed *bed) environ() []string {
	return append(os.Environ(), "TZ=UTC", cache.Env+"="+bed.path("cache"), "LD_LIBRARY_PATH="+bed.path("lib"))
}

// makeTap creates the host's end of the guests' link, which stays between machines.
func (bed *bed) makeTap(b *testing.B) {
	b.Helper()
	tap := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: tapName}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_ONE_QUEUE}
	if err := netlink.LinkAdd(tap); err != nil {
		b.Fatalf("make tap %s: %v", tapName, err)
	}
	b.Cleanup(func() { _ = netlink.LinkDel(tap) })
	for _, fd := range tap.Fds {
		fd.Close()
	}
	addr, err := netlink.ParseAddr(hostCIDR)
	if err != nil {
		b.Fatal(err)
	}
	if err := netlink.AddrAdd(tap, addr); err != nil {
		b.Fatal(err)
	}
	if err := netlink.LinkSetUp(tap); err != nil {
		b.Fatal(err)
	}
}

// counter counts a KVM tracepoint on all CPUs, at the cost of a few instructions per event.
type counter struct {
	fds []int
}

func newCounter(b *testing.B, event string) *counter {
	b.Helper()
	text, err := os.ReadFile("/sys/kernel/tracing/events/kvm/" + event + "/id")
	if err != nil {
		b.Fatal(err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	c := &counter{}
	b.Cleanup(func() {
		for _, fd := range c.fds {
			unix.Close(fd)
		}
	})
	cpus, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	for cpu := range cpus {
		attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Size: unix.PERF_ATTR_SIZE_VER0, Config: id}
		fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			b.Fatalf("count %s on CPU %d: %v", event, cpu, err)
		}
		c.fds = append(c.fds, fd)
	}
	return c
}

func (c *counter) read() float64 {
	var sum uint64
	for _, fd := range c.fds {
		var p [8]byte
		if _, err := unix.Read(fd, p[:]); err == nil {
			sum += binary.NativeEndian.Uint64(p[:])
		}
	}
	return float64(sum)
}

// memoryBeyond sums a process's mappings, except those of the size of the guest's memory. It
// returns the KiB that are resident, and how many of these are not in the page cache, where others
// could share them.
func memoryBeyond(pid int, guestKiB int) (resident, private float64, err error) {
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return 0, 0, err
	}
	var ram bool
	found := false
	for line := range bytes.Lines(smaps) {
		var kib int
		name, value, _ := strings.Cut(string(line), ":")
		if _, err := fmt.Sscanf(strings.TrimSpace(value), "%d kB", &kib); err != nil {
			continue
		}
		switch name {
		case "Size": // the first line of each mapping
			ram = kib == guestKiB
			found = found || ram
		case "Rss":
			if !ram {
				resident += float64(kib)
			}
		case "Anonymous":
			if !ram {
				private += float64(kib)
			}
		}
	}
	if !found {
		return 0, 0, fmt.Errorf("process %d has no mapping of %d KiB, the guest's memory", pid, guestKiB)
	}
	return resident, private, nil
}

// busy returns the host's time, and the part of it in which a CPU was not idle, in ticks.
func busy() (total, idle float64) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	for i, word := range strings.Fields(line)[1:] {
		n, _ := strconv.ParseFloat(word, 64)
		if i < 8 { // guest time is in user time already
			total += n
		}
		if i == 3 || i == 4 {
			idle += n
		}
	}
	return total, idle
}
