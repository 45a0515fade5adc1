package vmm

import (
	"fmt"
	"os"
	"strings"

	"minivmm/vmm/acpi"
	"minivmm/vmm/boot"
)

// load writes the tables, the kernel and the initrd into guest memory.
func (m *VM) load(kernel *boot.Kernel, tscKHz int) (boot.Entry, error) {
	tables := acpi.Build(acpiConfig(m.plan.Machine.VCPUs), acpiGPA)
	w, err := m.mem.Window(acpiGPA, acpiSize)
	if err == nil && len(tables) > len(w) {
		err = fmt.Errorf("%d bytes do not fit into %d", len(tables), len(w))
	}
	if err != nil {
		return boot.Entry{}, fmt.Errorf("ACPI tables: %w", err)
	}
	copy(w, tables)
	params := boot.Params{
		Cmdline:  cmdline(tscKHz, string(m.plan.Boot.Cmdline)),
		RSDP:     acpiGPA,
		Reserved: reserved,
	}
	if m.plan.Boot.Initrd != "" {
		initrd, err := os.Open(string(m.plan.Boot.Initrd))
		if err != nil {
			return boot.Entry{}, fmt.Errorf("initrd: %w", err)
		}
		defer initrd.Close()
		params.Initrd = initrd
	}
	entry, err := kernel.Load(m.mem, params)
	if err != nil {
		return boot.Entry{}, &ConfigError{err}
	}
	return entry, nil
}

// ownCmdline holds the kernel parameters of every guest. The function cmdline adds tsc_early_khz,
// and then the user's parameters. If two parameters conflict, Linux uses the later one.
//
//   - console: the only console at boot.
//   - panic, reboot: a guest that panics reboots by the ACPI reset register, which stops the VM.
//   - tsc, no_timer_check: KVM's clock is right; calibrating and testing it costs boot time.
//   - tsc_early_khz: a kernel that does not use KVM's clock finds no other clock here with which to
//     calibrate its time stamp counter. Only on Intel processors does such a kernel ask CPUID for
//     the frequency.
var ownCmdline = []string{
	"console=ttyS0", "panic=-1", "reboot=acpi",
	"tsc=reliable", "no_timer_check",
}

// cmdline appends the user's parameters to minivmm's own. tscKHz is 0 if the host does not report
// the frequency.
func cmdline(tscKHz int, user string) string {
	words := ownCmdline
	if tscKHz != 0 {
		words = append(words[:len(words):len(words)], fmt.Sprintf("tsc_early_khz=%d", tscKHz))
	}
	return strings.TrimSpace(strings.Join(words, " ") + " " + user)
}
