package vmm

import "strings"

// ownCmdline is what every guest's kernel is told; the user's words follow, and
// Linux lets the later of two win.
//
//   - console: the only one there is at boot.
//   - panic, reboot: a guest that panics ends, through the ACPI reset register.
//   - tsc, no_timer_check: KVM's clock is right; calibrating and testing it
//     costs boot time.
var ownCmdline = []string{
	"console=ttyS0", "panic=-1", "reboot=acpi",
	"tsc=reliable", "no_timer_check",
}

func cmdline(user string) string {
	return strings.TrimSpace(strings.Join(ownCmdline, " ") + " " + user)
}
