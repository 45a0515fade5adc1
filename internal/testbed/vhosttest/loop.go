package vhosttest

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// OpenLoop makes an image a block device and returns the device's node. It fails on a host without
// loop devices.
func OpenLoop(t testing.TB, image string) (string, error) {
	t.Helper()
	// Without udev nothing loads the module. If it is built in or cannot be loaded, losetup
	// reports the result.
	exec.Command("modprobe", "loop").Run()
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("losetup: %w: %s", err, out)
	}
	node := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", node).Run() })
	return node, nil
}
