package vmmtest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"minivmm/internal/testbed/testenv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// OK is the line that a guest writes to the console when its scenario has succeeded.
const OK = "minivmm-guest: ok"

// Other lines that a guest writes for its test.
const (
	markReady = "minivmm-guest: ready"
	markFail  = "minivmm-guest: fail: "
)

// Guest gives a scenario access to the VM in which the scenario runs.
type Guest struct {
	Args  []string // Options.Args of the test
	input *bufio.Scanner
}

// Scenario runs as process 1 of a guest. If the function returns an error, the test fails with that
// error. In either case, the guest powers off.
type Scenario func(g *Guest) error

// runGuest is process 1: it never returns.
func runGuest(scenarios map[string]Scenario) {
	g := &Guest{}
	if err := g.run(scenarios); err != nil {
		g.Printf("%s%s", markFail, strings.ReplaceAll(err.Error(), "\n", "; "))
	} else {
		g.Printf(OK)
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // the kernel panics when process 1 exits
}

func (g *Guest) run(scenarios map[string]Scenario) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v: %s", r, debug.Stack())
		}
	}()
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err == nil {
		os.Stdin, os.Stdout, os.Stderr = console, console, console
	}
	g.input = bufio.NewScanner(os.Stdin)
	g.Printf(markReady)
	for _, m := range []struct{ kind, dir string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	line, err := os.ReadFile("/scenario")
	if err != nil {
		return err
	}
	words := strings.Split(string(line), "\n")
	g.Args = words[1:]
	if err := loadModules(); err != nil {
		return err
	}
	scenario, ok := scenarios[words[0]]
	if !ok {
		return fmt.Errorf("scenario %q is not in this binary", words[0])
	}
	return scenario(g)
}

// loadModules loads the modules that moduleOrder lists.
func loadModules() error {
	order, err := os.ReadFile(moduleOrder)
	if err != nil {
		return err
	}
	for _, file := range strings.Fields(string(order)) {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("load %s: %w", file, err)
		}
	}
	return nil
}

// Printf writes a line to the console, for Machine.Expect.
func (g *Guest) Printf(format string, args ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", args...)
}

// ReadLine waits for a line that the test sent.
func (g *Guest) ReadLine() (string, error) {
	if !g.input.Scan() {
		return "", fmt.Errorf("console: no more input: %v", g.input.Err())
	}
	return g.input.Text(), nil
}

// NetUp assigns the address cidr to the guest's only NIC and, unless gateway is "", adds a default
// route. It returns the NIC's name.
func (g *Guest) NetUp(cidr, gateway string) (string, error) {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return "", err
	}
	var nic netlink.Link
	err = g.Await("a network interface", func() bool {
		links, _ := netlink.LinkList()
		for _, l := range links {
			if l.Attrs().Name != "lo" && l.Type() == "device" {
				nic = l
			}
		}
		return nic != nil
	})
	if err != nil {
		return "", err
	}
	if err := netlink.LinkSetUp(nic); err != nil {
		return "", fmt.Errorf("%s up: %w", nic.Attrs().Name, err)
	}
	if err := netlink.AddrAdd(nic, addr); err != nil || gateway == "" {
		return nic.Attrs().Name, err
	}
	return nic.Attrs().Name, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)})
}

// Disk waits for the disk with the given serial number and returns its device file.
func (g *Guest) Disk(serial string) (string, error) {
	var found string
	err := g.Await("disk "+serial, func() bool {
		pages, _ := filepath.Glob("/sys/block/sd*/device/vpd_pg80")
		for _, page := range pages {
			b, err := os.ReadFile(page)
			if err == nil && len(b) > 4 && strings.Trim(string(b[4:]), " \x00") == serial {
				found = "/dev/" + strings.Split(page, "/")[3]
			}
		}
		return found != ""
	})
	return found, err
}

// Await polls until the function ok returns true. Use it to wait for work that the guest's kernel
// finishes without a notification, such as a scan for disks.
func (g *Guest) Await(what string, ok func() bool) error {
	for deadline := time.Now().Add(testenv.Patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return nil
		}
	}
	return fmt.Errorf("%s did not appear", what)
}

// PowerButton watches every input device. The channel receives nil when the power button is
// pressed, or an error if a device can no longer be read.
func (g *Guest) PowerButton() (<-chan error, error) {
	files, err := filepath.Glob("/dev/input/event*")
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no input device (%v)", err)
	}
	pressed := make(chan error, len(files))
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		go func() { pressed <- awaitPowerKey(f) }()
	}
	return pressed, nil
}

// awaitPowerKey reads struct input_event (uapi/linux/input.h) until KEY_POWER is pressed.
func awaitPowerKey(r io.Reader) error {
	const evKey, keyPower, down = 1, 116, 1
	for {
		var event [24]byte
		if _, err := io.ReadFull(r, event[:]); err != nil {
			return err
		}
		kind, code := binary.LittleEndian.Uint16(event[16:]), binary.LittleEndian.Uint16(event[18:])
		if kind == evKey && code == keyPower && event[20] == down {
			return nil
		}
	}
}
