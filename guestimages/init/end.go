package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// end syncs the file systems and powers off the VM, or restarts it if the kernel command line asks
// for a restart. If failed is true, the VM did not do what it was started for. The VM then stops
// with a triple fault, which no host mistakes for an intended power-off.
func end(words cmdline, failed bool) {
	unix.Sync()
	// A read-only remount leaves a root disk clean. It fails if a file is still open for writing.
	_ = unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	// Wait until the console has sent everything, tcdrain(3): a power-off drops the rest. A
	// console that cannot be drained has nothing to send.
	_ = unix.IoctlSetInt(int(os.Stderr.Fd()), unix.TCSBRK, 1)
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if failed {
		// The default type would only restart the VM
		// (Documentation/ABI/testing/sysfs-kernel-reboot).
		_ = os.WriteFile("/sys/kernel/reboot/type", []byte("triple"), 0)
	}
	if failed || words.value("minivmm.end") == "restart" {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	err := unix.Reboot(how)
	fmt.Fprintf(os.Stderr, "init: reboot: %v\n", err)
	select {}
}

// buttonWait is how long programs may take to exit after each of the two signals that a press of
// the power button causes. The default of minivmm's machine.shutdown_timeout is longer than both
// waits together.
const buttonWait = 3 * time.Second

// watchButtons stops the VM when an input device reports a press of KEY_POWER. It looks for devices
// once, after the modules are loaded: the ACPI button does not appear later.
func watchButtons(words cmdline) {
	devices, _ := filepath.Glob("/sys/class/input/event*")
	for _, dev := range devices {
		if !hasKey(readWord(filepath.Join(dev, "device/capabilities/key")), keyPower) {
			continue
		}
		f, err := os.Open("/dev/input/" + filepath.Base(dev))
		if err != nil {
			continue
		}
		go func() {
			defer f.Close()
			if waitKey(f, keyPower) {
				fmt.Fprintln(os.Stderr, "init: power button")
				// The VM stops when its command exits, or after these waits if the command does not
				// exit. A shell at a terminal reacts only to SIGHUP.
				for _, sig := range []unix.Signal{unix.SIGTERM, unix.SIGHUP} {
					_ = unix.Kill(-1, sig)
					time.Sleep(buttonWait)
				}
				end(words, false)
			}
		}()
	}
}

// keyPower is KEY_POWER, uapi/linux/input-event-codes.h.
const keyPower = 116

// hasKey parses a bitmap as sysfs prints it: 64-bit words in hexadecimal, the highest first.
func hasKey(bitmap string, key int) bool {
	words := strings.Fields(bitmap)
	i := len(words) - 1 - key/64
	if i < 0 {
		return false
	}
	v, err := strconv.ParseUint(words[i], 16, 64)
	return err == nil && v>>(key%64)&1 != 0
}

// waitKey reads events (struct input_event: time, type, code, value) from r. It returns true when
// the key is pressed, or false when r ends.
func waitKey(r io.Reader, key uint16) bool {
	const evKey = 1 // EV_KEY
	var event [24]byte
	for {
		if _, err := io.ReadFull(r, event[:]); err != nil {
			return false
		}
		e := binary.NativeEndian
		if e.Uint16(event[16:]) == evKey && e.Uint16(event[18:]) == key && e.Uint32(event[20:]) == 1 {
			return true
		}
	}
}
