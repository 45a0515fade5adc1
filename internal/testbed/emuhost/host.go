package emuhost

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/filetree"
	"minivmm/guestimages/initbin"
	"minivmm/guestimages/initrd"
	"minivmm/guestimages/kernel"
	"minivmm/internal/testbed/qemu"
)

// Host holds the files that are needed to start an emulated host. Its methods are safe for
// concurrent use.
type Host struct {
	config Config
	qemu   qemu.QEMU
	kernel kernel.Kernel
	// vmlinux is the unpacked kernel. QEMU boots it through PVH, because unpacking a kernel in the
	// emulated machine is slow.
	vmlinux string
	initrd  string
	cache   string                           // the cache's folder; its path is the same in the host
	logf    func(format string, args ...any) // logs restarts
}

// wanted are the modules that init loads: the drivers of the host's devices and file systems, and
// the modules that minivmm uses. modprobe finds all others.
var wanted = []string{
	"virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay",
	"kvm-amd", "vhost_net", "vhost_scsi", "vhost_vsock", "tun",
	"configfs", "target_core_file", "target_core_iblock", "tcm_loop", "loop",
}

// channel is the name of the virtio-serial port between the launcher and the host's init.
const channel = "minivmm"

// rootTag is the virtio-9p tag of the building machine's file tree.
const rootTag = "root"

// Prepare returns a host that is ready to run commands. It fetches or builds whatever is missing in
// the cache c, and logs to the log of c.
func Prepare(ctx context.Context, c *cache.Cache, config Config) (*Host, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	config.Shares = outermost(config.Shares)
	a := debian.New(c)
	k, err := hostKernel(ctx, a, config.Kernel)
	if err != nil {
		return nil, err
	}
	if k.Vmlinux == "" {
		return nil, fmt.Errorf("emuhost: cannot unpack kernel %s: its compression is not supported", k.Release)
	}
	q, err := qemu.Get(ctx, c, a)
	if err != nil {
		return nil, err
	}
	initrd, err := hostInitrd(ctx, c, k)
	if err != nil {
		return nil, err
	}
	return &Host{config: config, qemu: q, kernel: k, vmlinux: k.Vmlinux, initrd: initrd, cache: c.Root, logf: c.Logf}, nil
}

// Newest is the Config.Kernel value for the newest kernel that Debian offers for its stable
// release.
const (
	Newest      = "newest"
	newestSuite = "trixie-backports"
)

func hostKernel(ctx context.Context, a *debian.Archive, name string) (kernel.Kernel, error) {
	switch {
	case name == Newest:
		return kernel.Get(ctx, a.Suite(newestSuite), "linux-image-"+kernel.Full)
	case strings.Contains(name, "-"):
		return kernel.Kernel{}, fmt.Errorf("emuhost: kernel %s has no drivers for a host: want 6.12, 6.1 or %s", name, Newest)
	}
	return kernel.Get(ctx, a, name+"-"+kernel.Full)
}

// hostPlan returns the plan that init follows in the host.
func hostPlan(k kernel.Kernel) agent.Plan {
	return agent.Plan{
		Channel:  channel,
		HoldVM:   true,
		Root:     &agent.Root{Tag: rootTag, Release: k.Release, Modules: k.Modules},
		Hostname: "emuhost",
		Mounts: []agent.Mount{
			{Source: "run", Target: "/run", Type: "tmpfs", Data: "mode=755"},
			{Source: "cgroup2", Target: "/sys/fs/cgroup", Type: "cgroup2"},
			{Source: "configfs", Target: "/sys/kernel/config", Type: "configfs"},
			{Source: "debugfs", Target: "/sys/kernel/debug", Type: "debugfs"},
			{Source: "tracefs", Target: "/sys/kernel/tracing", Type: "tracefs"},
			{Source: "mqueue", Target: "/dev/mqueue", Type: "mqueue", Optional: true},
		},
		Writes: []agent.Write{
			{Path: "/sys/fs/cgroup/cgroup.subtree_control", Text: "+cpuset +cpu +io +memory +pids"},
		},
	}
}

// hostInitrd returns the path of the initial RAM file system for the kernel k. It contains init,
// the plan that init follows and the modules that init loads.
func hostInitrd(ctx context.Context, c *cache.Cache, k kernel.Kernel) (string, error) {
	program, err := initbin.Path(ctx, c)
	if err != nil {
		return "", err
	}
	p := hostPlan(k)
	spec, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("emuhost: %w", err)
	}
	// The paths of the program and of the modules identify their content.
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s\n%s\n%q\n", program, k.Modules, spec, wanted))
	return initrd.Make(ctx, c, fmt.Sprintf("host-%x", sum[:16]), func(t *filetree.Tree) error {
		modules, err := k.OpenModules()
		if err != nil {
			return err
		}
		if p.Modules, err = initrd.AddModules(t, modules, wanted...); err != nil {
			return err
		}
		return initrd.AddInit(t, program, p)
	})
}
