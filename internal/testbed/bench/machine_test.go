package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"
	"minivmm/vhost/lio"
)

const (
	guestMiB = 256
	diskMiB  = 64
)

// words is the kernel command line of every guest; minivmm adds it on its own.
const words = "console=ttyS0 panic=-1 reboot=acpi tsc=reliable no_timer_check quiet"

// vmm starts one kind of machine.
type vmm struct {
	name    string
	argv    func(bed *bed, m *machine) []string
	isQEMU  bool
	devices bool                                // with a NIC on the tap, and a disk
	user    bool                                // with a NIC on a network in user space
	peer    func(bed *bed, m *machine) []string // a program that runs next to it, from before its start until after its end
}

// machine is one VM as a process.
type machine struct {
	b        *testing.B
	initrd   string
	wwpn     string // the name of the disk's target, for QEMU
	disk     string
	cmd      *exec.Cmd
	console  io.WriteCloser
	lines    chan line
	listener net.Listener
	started  time.Time

	log     strings.Builder // used by the reader
	peerLog strings.Builder // the peer's output; complete after its end

	end func() // stops the VM; the second call does nothing
}

// line is a line of console output and the time when it was complete.
type line struct {
	text string
	at   time.Time
}

// minivmm reads a configuration file, as a user would write it.
func minivmmMachine(devices bool) vmm {
	return vmm{name: "minivmm", devices: devices, argv: func(bed *bed, m *machine) []string {
		file := bed.path("minivmm.toml")
		text := fmt.Sprintf("[machine]\nmemory = \"%dM\"\nshutdown_timeout = \"1ms\"\n[boot]\nkernel = %q\ninitrd = %q\ncmdline = \"quiet\"\n", guestMiB, bed.kernel, m.initrd)
		if devices {
			text += fmt.Sprintf("[[net]]\ntap = %q\n[[disk]]\npath = %q\nserial = %q\n", bed.tap, m.disk, diskSerial)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			m.b.Fatal(err)
		}
		return []string{bed.minivmm, "run", file}
	}}
}

// qemuMachine is a machine type of QEMU with its properties.
func qemuMachine(machineType string, devices bool) vmm {
	return vmm{name: "qemu-" + machineType, isQEMU: true, devices: devices, argv: func(bed *bed, m *machine) []string {
		argv := []string{bed.qemu, "-L", bed.path("qemu/share"), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
			"-M", machineType, "-accel", "kvm", "-cpu", "host", "-m", strconv.Itoa(guestMiB), "-smp", "1",
			"-kernel", bed.kernel, "-initrd", m.initrd, "-append", words, "-serial", "stdio"}
		if devices {
			argv = append(argv,
				"-netdev", "tap,id=n0,vhost=on,script=no,downscript=no,ifname="+bed.tap, "-device", "virtio-net-pci,netdev=n0,romfile=",
				"-device", "vhost-scsi-pci,wwpn="+m.wwpn)
		}
		return argv
	}}
}

// start runs the VMM and records the time just before.
func (v vmm) start(b *testing.B, bed *bed, initrd string) *machine {
	b.Helper()
	if v.isQEMU && bed.qemu == "" {
		b.Skip("no QEMU: apt-get install qemu-system-x86, or set MINIVMM_QEMU")
	}
	m := &machine{b: b, initrd: initrd, lines: make(chan line, 1000)}
	var target *lio.Target
	if v.devices {
		m.disk = bed.path("disk.img")
		if err := randomFile(m.disk, diskMiB<<20); err != nil {
			b.Fatal(err)
		}
		if v.isQEMU {
			var err error
			target, err = lio.Create(lio.Config{Name: "bench", LUNs: []lio.LUN{{Path: m.disk, Serial: diskSerial}}})
			if err != nil {
				b.Fatal(err)
			}
			m.wwpn = target.WWPN()
		}
	}
	if v.devices || v.user {
		var err error
		if m.listener, err = net.Listen("tcp", hostPort); err != nil {
			b.Fatal(err)
		}
	}
	endPeer := func() {}
	if v.peer != nil {
		endPeer = m.startPeer(bed, v.peer(bed, m))
	}
	argv := v.argv(bed, m)
	m.cmd = exec.Command(argv[0], argv[1:]...)
	m.cmd.Env = bed.environ()
	var err error
	if m.console, err = m.cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	m.cmd.Stderr = m.cmd.Stdout
	read := make(chan struct{})
	m.started = time.Now()
	if err := m.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	go func() {
		defer close(read)
		m.read(stdout)
	}()
	m.end = sync.OnceFunc(func() {
		_ = m.cmd.Process.Signal(syscall.SIGTERM)
		<-read
		_ = m.cmd.Wait() // killed by a signal, or minivmm's exit code
		endPeer()
		if m.listener != nil {
			m.listener.Close()
		}
		if target != nil {
			if err := target.Remove(); err != nil {
				b.Error(err)
			}
		}
		if b.Failed() {
			b.Logf("%s:\n%s%s", strings.Join(argv, " "), m.log.String(), m.peerLog.String())
		}
	})
	b.Cleanup(m.end)
	return m
}

func (m *machine) read(console io.Reader) {
	defer close(m.lines)
	scanner := bufio.NewScanner(console)
	for scanner.Scan() {
		at := time.Now()
		fmt.Fprintln(&m.log, scanner.Text())
		m.lines <- line{scanner.Text(), at}
	}
}

// expect waits for a line that matches the pattern.
func (m *machine) expect(pattern string) (match []string, at time.Time) {
	m.b.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(testenv.Patience)
	for {
		select {
		case l, ok := <-m.lines:
			if !ok || strings.Contains(l.text, "minivmm-guest: fail") {
				m.b.Fatalf("waiting for %q: the machine exited", pattern)
			}
			if match := re.FindStringSubmatch(l.text); match != nil {
				return match, l.at
			}
		case <-timeout:
			m.b.Fatalf("waiting for %q: not within %v", pattern, testenv.Patience)
		}
	}
}

// ask sends a command and returns the nanoseconds that the guest reports.
func (m *machine) ask(what string, numbers ...int) float64 {
	m.b.Helper()
	text := what
	for _, n := range numbers {
		text += " " + strconv.Itoa(n)
	}
	m.expect(`next\?`)
	served := make(chan error, 1)
	go func() { served <- m.serve(what, numbers) }()
	if _, err := io.WriteString(m.console, text+"\n"); err != nil {
		m.b.Fatal(err)
	}
	match, _ := m.expect(`took (\d+)`)
	if err := <-served; err != nil {
		m.b.Fatalf("%s: %v", text, err)
	}
	ns, err := strconv.ParseFloat(match[1], 64)
	if err != nil {
		m.b.Fatal(err)
	}
	return ns
}

// serve is the host's part of a command.
func (m *machine) serve(what string, numbers []int) error {
	if what == "connect" {
		for range numbers[0] {
			conn, err := m.listener.Accept()
			if err != nil {
				return err
			}
			if err := hostSide(conn, "echo", 1); err != nil {
				return err
			}
		}
	}
	if _, ok := netCommands[what]; !ok {
		return nil
	}
	connections := 1
	if len(numbers) > 1 {
		connections = numbers[1]
	}
	ended := make(chan error, connections)
	for range connections {
		conn, err := m.listener.Accept()
		if err != nil {
			return err
		}
		go func() { ended <- hostSide(conn, what, numbers[0]/connections) }()
	}
	var errs []error
	for range connections {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}
