package vhosttest

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// OpenLoop attaches an image to a loop device and returns the path of the device node. It fails on
// a host without loop devices.
func OpenLoop(t testing.TB, image string) (string, error) {
	t.Helper()
	// On a host without udev, nothing else loads the module. Errors are ignored: the module may be
	// built in, and if it is missing, losetup fails.
	exec.Command("modprobe", "loop").Run()
	out, err := exec.Command("losetup", "--find", "--show", image).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("losetup: %w: %s", err, out)
	}
	node := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "--detach", node).Run() })
	return node, nil
}
