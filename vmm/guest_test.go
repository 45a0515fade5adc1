package vmm_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"minivmm/internal/testbed/vhosttest"
	"minivmm/internal/testbed/vmmtest"
	"minivmm/vmm"
	"minivmm/vmm/config"
)

// parse reads a configuration as a user would write it.
func parse(t testing.TB, format string, args ...any) *config.Config {
	t.Helper()
	cfg, err := config.Parse("/test.toml", fmt.Appendf(nil, format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// guestConfig returns a machine that runs a scenario, for the test to change. Both hosts that run
// the tests would choose ports for notifications, as all hosts with SVM do; on the older one memory
// is set instead, to cover the others.
func guestConfig(t testing.TB, k vmmtest.Kernel, scenario string, args ...string) *config.Config {
	t.Helper()
	cfg := parse(t, "[boot]\nkernel = %q\ninitrd = %q\ncmdline = \"quiet\"\n", vmmtest.Vmlinux(t, k), vmmtest.Initrd(t, k, scenario, args...))
	if !vhosttest.ThreadWorkers(t) {
		cfg.Machine.Notify = config.NotifyMemory
	}
	return cfg
}

// TestBootMatrix boots each guest kernel, packed and unpacked, on one and on four vCPUs, and checks
// what the guest sees.
func TestBootMatrix(t *testing.T) {
	for _, k := range vmmtest.Kernels(t) {
		for _, format := range []string{"bzImage", "vmlinux"} {
			for _, vcpus := range []int{1, 4} {
				t.Run(fmt.Sprintf("%s/%s/%dcpu", k.Name, format, vcpus), func(t *testing.T) {
					cfg := guestConfig(t, k, "report")
					if format == "bzImage" {
						cfg.Boot.Kernel = config.Kernel(k.Image)
					}
					cfg.Machine.VCPUs = vcpus
					m := vmmtest.Boot(t, cfg)
					if got := m.Expect(`cpus=(\d+) `)[1]; got != fmt.Sprint(vcpus) {
						t.Errorf("guest counts %s CPUs, want %d", got, vcpus)
					}
					m.Expect(`1b36:0x0008`[5:]) // the host bridge's device id
					m.Expect(`0x1af4:0x1044 driver virtio-pci`)
					m.Expect(`clocksource kvm-clock|clocksource tsc`)
					m.Expect(`hwrng virtio_rng\.0 [0-9a-f]{128}`)
					m.Succeed()
					if c := m.Complaints(); len(c) > 0 {
						t.Errorf("the kernel complains about the machine:\n%s", strings.Join(c, "\n"))
					}
				})
			}
		}
	}
}

// TestWithoutKVMClock boots a guest that has nothing to calibrate its time stamp counter with.
func TestWithoutKVMClock(t *testing.T) {
	cfg := guestConfig(t, vmmtest.Kernels(t)[0], "report")
	cfg.Boot.Cmdline += " no-kvmclock"
	m := vmmtest.Boot(t, cfg)
	m.Expect(`clocksource tsc`)
	m.Succeed()
}

// TestConfigurationPorts boots a guest that does not use ECAM.
func TestConfigurationPorts(t *testing.T) {
	cfg := guestConfig(t, vmmtest.Kernels(t)[0], "report")
	cfg.Boot.Cmdline = "pci=nommconf"
	cfg.Machine.PCIPorts = true
	m := vmmtest.Boot(t, cfg)
	m.Expect(`PCI: Using configuration type 1 for base access`)
	m.Expect(`0x1af4:0x1044 driver virtio-pci`)
	m.Succeed()
}

func TestSixteenVCPUs(t *testing.T) {
	cfg := guestConfig(t, vmmtest.Kernels(t)[0], "report")
	cfg.Machine.VCPUs = 16
	m := vmmtest.Boot(t, cfg)
	m.Expect(`cpus=16 `)
	m.Succeed()
}

// TestSmallestMemory boots guests with the smallest memory that a configuration allows. Debian's
// kernels start in it, see all of it, and run out of memory before init. In 72 MiB both boot, but
// only because they were moved down from 16 MiB.
func TestSmallestMemory(t *testing.T) {
	cfg := parse(t, "[boot]\nkernel = %q\ninitrd = %q\n[machine]\nmemory = \"64M\"", vmmtest.Vmlinux(t, vmmtest.Kernels(t)[0]), tinyInitrd(t))
	m := vmmtest.Boot(t, cfg)
	m.Expect(`Memory: \d+K/65\d{3}K available`)
	m.Stop()
	m.Wait(vmm.Stopped)
	cfg.Machine.Memory = 72 << 20
	vmmtest.Boot(t, cfg).Succeed()
}

// tinyInitrd has an init of 51 bytes of code, as this test binary is too large for the smallest
// guests: write(1, "minivmm-guest: ok\n"), reboot(power off).
func tinyInitrd(t *testing.T) string {
	t.Helper()
	const text = "minivmm-guest: ok\n"
	code := []byte{
		0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, // mov eax, SYS_write; mov edi, 1
		0x48, 0x8d, 0x35, 34, 0, 0, 0, 0xba, byte(len(text)), 0, 0, 0, 0x0f, 5, // lea rsi, [rip+34]; mov edx, len; syscall
		0xb8, 0xa9, 0, 0, 0, 0xbf, 0xad, 0xde, 0xe1, 0xfe, // mov eax, SYS_reboot; mov edi, LINUX_REBOOT_MAGIC1
		0xbe, 0x69, 0x19, 0x12, 0x28, 0xba, 0xdc, 0xfe, 0x21, 0x43, // mov esi, LINUX_REBOOT_MAGIC2; mov edx, LINUX_REBOOT_CMD_POWER_OFF
		0x4d, 0x31, 0xd2, 0x0f, 5, 0xeb, 0xfe, // xor r10, r10; syscall; jmp .
	}
	code = append(code, text...)
	const base, headers = 0x400000, 64 + 56
	le := binary.LittleEndian
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	for _, v := range []uint16{2, 62} { // ET_EXEC, EM_X86_64
		elf = le.AppendUint16(elf, v)
	}
	elf = le.AppendUint32(elf, 1)
	for _, v := range []uint64{base + headers, 64, 0} { // e_entry, e_phoff, e_shoff
		elf = le.AppendUint64(elf, v)
	}
	elf = le.AppendUint32(elf, 0)
	for _, v := range []uint16{64, 56, 1, 0, 0, 0} { // e_ehsize, e_phentsize, e_phnum, no sections
		elf = le.AppendUint16(elf, v)
	}
	size := uint64(headers + len(code))
	elf = le.AppendUint32(le.AppendUint32(elf, 1), 5) // PT_LOAD, PF_R|PF_X
	for _, v := range []uint64{0, base, base, size, size, 0x1000} {
		elf = le.AppendUint64(elf, v)
	}
	return vmmtest.SaveInitrd(t, map[string][]byte{"init": append(elf, code...)})
}

// TestMemoryAboveTheHole gives the guest 5 GiB and lets it use half a GiB: memory that it does not
// touch is not resident, and memory that it touches has the right contents.
func TestMemoryAboveTheHole(t *testing.T) {
	const touched = 512 << 20
	cfg := guestConfig(t, vmmtest.Kernels(t)[0], "touch", fmt.Sprint(touched))
	cfg.Machine.Memory = 5 << 30
	m := vmmtest.Boot(t, cfg)
	m.Expect("untouched")
	if resident := residentBytes(t); resident > 400<<20 {
		t.Errorf("%d MiB are resident before the guest touches its memory", resident>>20)
	}
	m.Send("go\n")
	m.Expect("touched")
	if resident := residentBytes(t); resident < touched {
		t.Errorf("%d MiB are resident after the guest touched %d MiB", resident>>20, touched>>20)
	}
	m.Succeed()
}

func residentBytes(t *testing.T) int {
	t.Helper()
	var total, resident int
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(b), &total, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

func TestOutcomes(t *testing.T) {
	for _, tc := range []struct {
		way, cmdline string
		want         vmm.Outcome
	}{
		{"poweroff", "", vmm.PoweredOff},
		{"reboot", "", vmm.Rebooted},
		{"reboot", "reboot=k", vmm.Rebooted}, // port 0x64
		{"reboot", "reboot=p", vmm.Rebooted}, // port 0xcf9
		{"panic", "", vmm.Rebooted},
		{"triple-fault", "reboot=triple", vmm.Crashed},
	} {
		t.Run(strings.TrimSpace(tc.way+" "+tc.cmdline), func(t *testing.T) {
			cfg := guestConfig(t, vmmtest.Kernels(t)[0], "end", tc.way)
			cfg.Boot.Cmdline += config.Cmdline(" " + tc.cmdline)
			vmmtest.Boot(t, cfg).Wait(tc.want)
		})
	}
}

func TestStopOfAHaltedGuest(t *testing.T) {
	cfg := guestConfig(t, vmmtest.Kernels(t)[0], "wait")
	cfg.Machine.VCPUs = 2
	m := vmmtest.Boot(t, cfg)
	m.Expect("waiting")
	m.Stop()
	m.Wait(vmm.Stopped)
}

func TestPowerButton(t *testing.T) {
	m := vmmtest.Boot(t, guestConfig(t, vmmtest.Kernels(t)[0], "wait"))
	m.Expect("waiting")
	if err := m.PowerButton(); err != nil {
		t.Fatal(err)
	}
	m.Expect("power button: <nil>")
	m.Succeed()
}

func TestConsoleInputIsComplete(t *testing.T) {
	m := vmmtest.Boot(t, guestConfig(t, vmmtest.Kernels(t)[0], "wait"))
	m.Expect("waiting")
	line := strings.Repeat("0123456789abcdef", 60) // longer than any FIFO, shorter than a tty's line
	m.Send(line + "\n")
	m.Expect(`got "` + line + `"`)
	m.Stop()
	m.Wait(vmm.Stopped)
}

// TestConsoleAnswersEachLine types while the guest writes: both raise the same interrupt line, from
// two threads.
func TestConsoleAnswersEachLine(t *testing.T) {
	m := vmmtest.Boot(t, guestConfig(t, vmmtest.Kernels(t)[0], "wait"))
	m.Expect("waiting")
	for i := range 200 {
		m.Send(fmt.Sprintf("line %d\n", i))
		m.Expect(fmt.Sprintf("got .line %d.", i))
	}
	m.Stop()
	m.Wait(vmm.Stopped)
}

// TestProtocolsOfOneKernel boots the same image through each of its entries: unpacked through its
// 64-bit entry (TestBootMatrix), through PVH, and packed.
func TestProtocolsOfOneKernel(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*config.Boot)
	}{
		{"pvh", func(b *config.Boot) { b.Protocol = config.ProtocolPVH }},
		{"kaslr", func(b *config.Boot) { b.KASLR = true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := guestConfig(t, vmmtest.Kernels(t)[0], "report")
			tc.change(&cfg.Boot)
			m := vmmtest.Boot(t, cfg)
			m.Expect(`0x1af4:0x1044 driver virtio-pci`)
			m.Succeed()
		})
	}
}
