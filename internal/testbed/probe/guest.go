package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
	"minivmm/internal/testbed/transcript"
	"minivmm/vmm"
	"minivmm/vmm/config"
)

// limit is how long the guest may take. A host that can run the guest needs a second or two.
const limit = 20 * time.Second

// marker is the line that the guest prints on success.
const marker = "probe: this guest works"

// devices is the configuration of the devices that the guest looks for; the disk's path must be
// filled in.
const devices = "[[net]]\nbackend = \"vhost\"\n[[disk]]\nbackend = \"vhost-scsi\"\npath = %q\n"

// look is the guest's command: it waits for both devices.
const look = "while ! [ -d /sys/class/net/eth0 -a -b /dev/sda ]; do usleep 10000; done; "

// tryGuest boots a guest with a network interface and a disk, and waits until the guest finds both.
func tryGuest(ctx context.Context, c *cache.Cache, limit time.Duration) error {
	dir, err := os.MkdirTemp("", "minivmm-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	disk := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	return boot(ctx, c, transcript.New(), fmt.Sprintf(devices, disk), look, limit)
}

// boot boots a guest with the given devices. The guest runs the given shell command and then prints
// the marker on its console, whose output goes to out. boot returns nil if the guest printed the
// marker and powered off.
func boot(ctx context.Context, c *cache.Cache, out *transcript.Transcript,
	devices, command string, limit time.Duration,
) (err error) {
	k, err := kernel.Get(ctx, debian.New(c), "6.12-cloud")
	if err != nil {
		return err
	}
	initrd, err := initrd.Build(ctx, c, k, initrd.Options{Hostname: "probe", Command: []string{"/bin/sh", "-c", command + "echo " + marker}})
	if err != nil {
		return err
	}
	cfg, err := config.Parse("/probe.toml", fmt.Appendf(nil, "[boot]\nkernel = %q\ninitrd = %q\ncmdline = \"quiet\"\n%s", k.Vmlinux, initrd, devices))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	plan, _ := vmm.Resolve(cfg)
	vm, err := vmm.New(plan, vmm.Options{Console: out, Logf: func(string, ...any) {}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, vm.Close()) }()
	outcome, err := vm.Run(ctx)
	if err != nil {
		return err
	}
	said := strings.TrimSpace(out.String())
	end := said[max(0, len(said)-200):]
	switch {
	case outcome == vmm.Stopped:
		return fmt.Errorf("the guest did not exit within %v; its console ends with %q", limit, end)
	case outcome != vmm.PoweredOff || !strings.Contains(said, marker):
		return fmt.Errorf("the guest %v; its console ends with %q", outcome, end)
	}
	return nil
}
