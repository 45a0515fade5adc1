package initrd

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"minivmm/guestimages/agent"
	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/filetree"
	"minivmm/guestimages/initbin"
	"minivmm/guestimages/kernel"

	"golang.org/x/sys/unix"
)

// defaultModules are the drivers of the devices that a guest may have, and of the file systems that
// the guest's disks may have. Init loads these modules on demand. Modules that a kernel lacks or
// has built in are left out. The modules in one line are loaded together, because a disk appears
// only some time after its host adapter.
func defaultModules() [][]string {
	return [][]string{
		{"virtio_pci"}, {"virtio_mmio"}, {"virtio_net"}, {"virtio_scsi", "sd_mod"}, {"virtio_blk"}, {"virtio_rng"}, {"virtio_console"},
		{"vmw_vsock_virtio_transport"}, {"button"}, {"evdev"},
		{"ext4"}, {"erofs"}, {"overlay"}, {"af_packet"}, {"crc32c_intel"}, {"crc32c_generic"},
	}
}

// Options configure the guest. The zero value gives a shell on the console.
type Options struct {
	Hostname string
	Command  []string // nil: /bin/sh; the kernel command line may override it after "--"
}

// Build returns the path of a guest's initial RAM file system for kernel k. The file is kept in the
// cache under a hash of everything that the file is made from.
func Build(ctx context.Context, c *cache.Cache, k kernel.Kernel, o Options) (string, error) {
	program, err := initbin.Path(ctx, c)
	if err != nil {
		return "", err
	}
	busybox, err := findBusybox(ctx, c)
	if err != nil {
		return "", err
	}
	if len(o.Command) == 0 {
		o.Command = []string{"/bin/sh"}
	}
	sum, err := key(c, o, k.ModulesID, program, busybox)
	if err != nil {
		return "", err
	}
	return Make(ctx, c, "guest-"+sum, func(t *filetree.Tree) error {
		if err := addBusybox(ctx, t, busybox); err != nil {
			return err
		}
		p := agent.Plan{Hostname: o.Hostname, Command: &agent.Command{Argv: o.Command}}
		if err := addModules(t, &p, k); err != nil {
			return err
		}
		if err := t.Put(filetree.Node{Path: "/tmp", Mode: unix.S_IFDIR | 0o1777}, nil); err != nil {
			return err
		}
		return AddInit(t, program, p)
	})
}

// key returns a hash of everything that a file system is made from: o, the modules, and the
// programs. Each program is given as a path, or as "". If the program is in the cache, its path
// changes with its content, so key hashes only the path. Otherwise key hashes the program's
// content.
func key(c *cache.Cache, o Options, modulesID string, programs ...string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, modulesID)
	for _, file := range programs {
		name, kept := strings.CutPrefix(file, c.Root)
		if !kept && file != "" {
			b, err := os.ReadFile(file)
			if err != nil {
				return "", fmt.Errorf("initrd: %w", err)
			}
			name = fmt.Sprintf("%x", sha256.Sum256(b))
		}
		fmt.Fprintf(h, "%s\n", name)
	}
	spec, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("initrd: %w", err)
	}
	fmt.Fprintf(h, "%s\n%q\n", spec, defaultModules())
	return fmt.Sprintf("%x", h.Sum(nil)[:16]), nil
}

// findBusybox returns the path of a static busybox: Debian's, or on a computer without Debian, the
// one installed there. If there is none, findBusybox returns "", and the guest has no shell.
func findBusybox(ctx context.Context, c *cache.Cache) (string, error) {
	dir, err := debian.New(c).Fetch(ctx, "busybox-static")
	if errors.Is(err, debian.ErrNoApt) {
		return staticProgram("busybox"), nil
	}
	if err != nil {
		return "", err
	}
	for _, bin := range []string{"bin", "usr/bin"} {
		file := filepath.Join(dir, bin, "busybox")
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("initrd: package busybox-static has no busybox in %s", dir)
}

// staticProgram returns the path of the named program on this computer, or "" if there is none that
// runs without shared libraries.
func staticProgram(name string) string {
	file, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	f, err := elf.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	dynamic := slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if dynamic || f.Machine != elf.EM_X86_64 {
		return ""
	}
	return file
}

// addBusybox adds busybox and a link for each program that busybox lists.
func addBusybox(ctx context.Context, t *filetree.Tree, file string) error {
	if file == "" {
		return nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("initrd: %w", err)
	}
	list, err := exec.CommandContext(ctx, file, "--list-full").Output()
	if err != nil {
		return fmt.Errorf("initrd: busybox --list-full: %w", err)
	}
	for _, name := range strings.Fields(string(list)) {
		if err := t.Put(filetree.Node{Path: name, Mode: unix.S_IFLNK | 0o777, Target: "/bin/busybox"}, nil); err != nil {
			return err
		}
	}
	return AddFile(t, "/bin/busybox", 0o755, b)
}

// addModules adds the default modules, to be loaded on demand.
func addModules(t *filetree.Tree, p *agent.Plan, k kernel.Kernel) error {
	tree, err := k.OpenModules()
	if err != nil {
		return err
	}
	groups := defaultModules()
	aliases, err := tree.Aliases(slices.Concat(groups...)...)
	if err != nil {
		return err
	}
	for _, group := range groups {
		group = slices.DeleteFunc(group, func(name string) bool { return !tree.IsFile(name) })
		if len(group) == 0 {
			continue
		}
		files, err := AddModules(t, tree, group...)
		if err != nil {
			return err
		}
		m := agent.Module{Name: group[0], Files: files}
		for _, name := range group {
			m.Aliases = append(m.Aliases, aliases[name]...)
		}
		p.OnDemand = append(p.OnDemand, m)
	}
	return nil
}
