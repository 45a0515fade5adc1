package vmm

import (
	"fmt"
	"strings"
)

// ownCmdline is what every guest's kernel is told; the user's words follow, and
// Linux lets the later of two win.
//
//   - console: the only one there is at boot.
//   - panic, reboot: a guest that panics ends, through the ACPI reset register.
//   - tsc, no_timer_check: KVM's clock is right; calibrating and testing it
//     costs boot time.
//   - tsc_early_khz: a kernel that does not use KVM's clock has nothing here to calibrate its time
//     stamp counter with, and asks CPUID for the frequency on Intel's processors only.
var ownCmdline = []string{
	"console=ttyS0", "panic=-1", "reboot=acpi",
	"tsc=reliable", "no_timer_check",
}

// cmdline puts the user's words behind minivmm's own. tscKHz is 0 where the host does not tell.
func cmdline(tscKHz int, user string) string {
	words := ownCmdline
	if tscKHz != 0 {
		words = append(words[:len(words):len(words)], fmt.Sprintf("tsc_early_khz=%d", tscKHz))
	}
	return strings.TrimSpace(strings.Join(words, " ") + " " + user)
}
