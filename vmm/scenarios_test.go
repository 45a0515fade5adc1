package vmm_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childEnv); what != "" {
		os.Exit(child(what))
	}
	vmmtest.Main(m, scenarios)
}

// scenarios are the guest sides of this package's tests.
var scenarios = map[string]vmmtest.Scenario{
	"report":  reportScenario,
	"wait":    waitScenario,
	"end":     endScenario,
	"touch":   touchScenario,
	"traffic": trafficScenario,
	"devices": devicesScenario,
	"flood":   floodScenario,
	"queues":  queuesScenario,
	"tools":   toolsScenario,
}

// reportScenario prints what the guest sees of the machine.
func reportScenario(g *vmmtest.Guest) error {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return err
	}
	g.Printf("cpus=%d memory=%dM", runtime.NumCPU(), si.Totalram*uint64(si.Unit)>>20)
	functions, err := filepath.Glob("/sys/bus/pci/devices/*")
	if err != nil {
		return err
	}
	for _, f := range functions {
		g.Printf("pci %s %s:%s driver %s", filepath.Base(f), readWord(f+"/vendor"), readWord(f+"/device"), linkBase(f+"/driver"))
	}
	clock := readWord("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	g.Printf("clocksource %s", clock)
	rng, err := os.Open("/dev/hwrng")
	if err != nil {
		return err
	}
	random := make([]byte, 64)
	if _, err := io.ReadFull(rng, random); err != nil {
		return fmt.Errorf("hwrng: %w", err)
	}
	g.Printf("hwrng %s %x", readWord("/sys/class/misc/hw_random/rng_current"), random)
	return kernelLog(g)
}

// kernelLog prints the kernel's warnings and its messages about ACPI.
func kernelLog(g *vmmtest.Guest) error {
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	p := make([]byte, 8192)
	for {
		n, err := unix.Read(int(f.Fd()), p)
		if err != nil {
			return nil // EAGAIN: no more messages
		}
		header, text, _ := strings.Cut(string(p[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		level, _ := strconv.Atoi(strings.Split(header, ",")[0])
		if level&7 <= 4 || strings.Contains(text, "ACPI") {
			g.Printf("kmsg <%d> %s", level&7, text)
		}
	}
}

func readWord(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

func linkBase(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return "none"
	}
	return filepath.Base(target)
}

// waitScenario answers lines until the power button or the test stops it.
func waitScenario(g *vmmtest.Guest) error {
	pressed, err := g.PowerButton()
	if err != nil {
		return err
	}
	lines := make(chan string)
	go func() {
		for {
			line, err := g.ReadLine()
			if err != nil {
				return
			}
			lines <- line
		}
	}()
	g.Printf("waiting")
	for {
		select {
		case line := <-lines:
			g.Printf("got %q", line)
		case err := <-pressed:
			g.Printf("power button: %v", err)
			return err
		}
	}
}

// endScenario stops the guest in the way that its argument names.
func endScenario(g *vmmtest.Guest) error {
	switch g.Args[0] {
	case "poweroff":
		return nil
	case "reboot":
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case "panic":
		return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "triple-fault":
		// With reboot=triple on the kernel command line.
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return fmt.Errorf("unknown way to stop %q", g.Args[0])
}

// touchScenario uses memory up to the last page that it can get, by filling half of the free
// memory.
func touchScenario(g *vmmtest.Guest) error {
	sizeBytes, err := strconv.Atoi(g.Args[0])
	if err != nil {
		return err
	}
	b, err := unix.Mmap(-1, 0, sizeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	g.Printf("untouched")
	if _, err := g.ReadLine(); err != nil {
		return err
	}
	for off := 0; off < len(b); off += 4096 {
		binary.LittleEndian.PutUint64(b[off:], uint64(off))
	}
	for off := 0; off < len(b); off += 4096 {
		if got := binary.LittleEndian.Uint64(b[off:]); got != uint64(off) {
			return fmt.Errorf("memory at %#x: got %#x", off, got)
		}
	}
	g.Printf("touched")
	return nil
}

// trafficScenario executes commands from the console: "send N" and "receive N" on a TCP connection
// to the host, "write N" and "read N" on the disk. It answers each with the SHA-256 of the N MiB.
// "ipv6 0" is ipv6InGuest.
//
// Args: the guest's address with prefix, the host's address with port, the disk's serial number,
// the gateway or "".
func trafficScenario(g *vmmtest.Guest) error {
	nic, err := g.NetUp(g.Args[0], g.Args[3])
	if err != nil {
		return err
	}
	disk, err := g.Disk(g.Args[2])
	if err != nil {
		return err
	}
	g.Printf("nic %s disk %s", nic, disk)
	for {
		g.Printf("next?")
		line, err := g.ReadLine()
		if err != nil {
			return err
		}
		var what string
		var mib int
		if n, _ := fmt.Sscanf(line, "%s %d", &what, &mib); n < 1 {
			return fmt.Errorf("unknown command %q", line)
		}
		switch what {
		case "quit":
			return nil
		case "ipv6":
			err = ipv6InGuest(g)
		default:
			err = transferInGuest(g, what, mib, g.Args[1], disk)
		}
		if err != nil {
			return err
		}
	}
}

// transferInGuest moves mib MiB, over a connection to host or to or from a disk, and prints the
// checksum of the data.
func transferInGuest(g *vmmtest.Guest, what string, mib int, host, disk string) error {
	sum := sha256.New()
	start := time.Now()
	switch what {
	case "send", "receive":
		conn, err := net.DialTimeout("tcp", host, testenv.Patience)
		if err != nil {
			return err
		}
		if what == "send" {
			_, err = io.Copy(io.MultiWriter(conn, sum), stream(mib))
		} else {
			_, err = io.Copy(sum, io.LimitReader(conn, int64(mib)<<20))
		}
		if err = firstError(err, conn.Close()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	case "write", "read":
		if err := diskTransfer(disk, what == "write", mib, sum); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	default:
		return fmt.Errorf("unknown command %q", what)
	}
	g.Printf("%s %s in %v", what, hex.EncodeToString(sum.Sum(nil)), time.Since(start))
	return nil
}

// stream returns mib MiB of data that no link can compress and that both sides can generate.
func stream(mib int) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{byte(mib)}), int64(mib)<<20)
}

// diskTransfer moves whole 64 KiB blocks and bypasses the guest's page cache, so that each block is
// one request.
func diskTransfer(path string, write bool, mib int, sum io.Writer) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	block, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer unix.Munmap(block)
	data := stream(mib)
	for off := int64(0); off < int64(mib)<<20; off += int64(len(block)) {
		if write {
			if _, err := io.ReadFull(data, block); err != nil {
				return err
			}
			_, err = f.WriteAt(block, off)
		} else {
			_, err = f.ReadAt(block, off)
		}
		if err != nil {
			return err
		}
		sum.Write(block)
	}
	return f.Sync()
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
