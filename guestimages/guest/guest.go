// Package guest makes initial RAM file systems for small guests: minivmm's own init, Debian's busybox-static with a link for
// each of its programs, the drivers of the paravirtual devices, and whatever files are added. A guest then needs no disk
// to run any static program.
//
// What is made is kept in the cache under a hash of all that goes into it.
package guest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/guestimages/initbin"
	"minivmm/guestimages/initramfs"
	"minivmm/guestimages/kernel"
	"minivmm/guestimages/modules"
	"minivmm/guestimages/plan"
)

// DefaultModules are the drivers of the devices that a guest may have; those that a kernel lacks are left out.
func DefaultModules() []string {
	return []string{
		"virtio_pci", "virtio_mmio", "virtio_net", "virtio_scsi", "sd_mod", "virtio_blk", "virtio_rng", "virtio_console",
		"vmw_vsock_virtio_transport", "button", "evdev",
	}
}

// File is a file of this machine and its path in the guest. Its permissions are kept, its owner becomes root.
type File struct{ Source, Path string }

// Options say what is in the guest beside init and busybox. The zero value gives a shell on the console.
type Options struct {
	Modules    []string // nil: DefaultModules; otherwise exactly these and what they need, and one that the kernel lacks is an error
	Files      []File
	Interfaces []plan.Interface
	Hostname   string
	Command    []string // nil: /bin/sh; the kernel command line may name another after "--"
}

// Initrd returns the path of the initial RAM file system for that kernel.
func Initrd(ctx context.Context, c *cache.Cache, k kernel.Kernel, o Options) (string, error) {
	program, err := initbin.Path(ctx, c)
	if err != nil {
		return "", err
	}
	busybox, err := debian.New(c).Fetch(ctx, "busybox-static", nil)
	if err != nil {
		return "", err
	}
	files, err := readFiles(o.Files)
	if err != nil {
		return "", err
	}
	if len(o.Command) == 0 {
		o.Command = []string{"/bin/sh"}
	}
	spec, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("guest: %w", err)
	}
	// The paths of program, modules and busybox name their content.
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%q\n", program, k.Modules, busybox.Dir, spec, DefaultModules())
	for _, f := range files {
		fmt.Fprintf(h, "%s %o %d\n", f.path, f.perm, len(f.data))
		h.Write(f.data)
	}
	return c.Make(ctx, fmt.Sprintf("initramfs/guest-%x.cpio", h.Sum(nil)[:16]), func(ctx context.Context, tmp string) error {
		var image initramfs.Archive
		if err := addBusybox(ctx, &image, busybox.Dir); err != nil {
			return err
		}
		if err := addProgram(&image, program); err != nil {
			return err
		}
		loaded, err := addModules(&image, k, o.Modules)
		if err != nil {
			return err
		}
		for _, f := range files {
			image.File(f.path, f.perm, initramfs.Owner{}, f.data)
		}
		image.Dir("/tmp", 0o1777, initramfs.Owner{})
		image.CharDevice("/dev/console", 0o600, initramfs.Owner{}, 5, 1)
		spec, err := json.Marshal(plan.Plan{
			Modules:    loaded,
			Hostname:   o.Hostname,
			Interfaces: o.Interfaces,
			Command:    &plan.Command{Argv: o.Command},
		})
		if err != nil {
			return fmt.Errorf("guest: %w", err)
		}
		image.File(plan.Path, 0o644, initramfs.Owner{}, spec)
		return writeTo(tmp, &image)
	})
}

type readFile struct {
	path string
	perm uint32
	data []byte
}

func readFiles(files []File) ([]readFile, error) {
	var all []readFile
	for _, f := range files {
		if !path.IsAbs(f.Path) {
			return nil, fmt.Errorf("guest: file %q: want an absolute path in the guest", f.Path)
		}
		info, err := os.Stat(f.Source)
		if err != nil {
			return nil, fmt.Errorf("guest: %w", err)
		}
		b, err := os.ReadFile(f.Source)
		if err != nil {
			return nil, fmt.Errorf("guest: %w", err)
		}
		all = append(all, readFile{f.Path, uint32(info.Mode().Perm()), b})
	}
	return all, nil
}

// addBusybox adds busybox and, as it says itself, its programs.
func addBusybox(ctx context.Context, image *initramfs.Archive, dir string) error {
	file := filepath.Join(dir, "bin", "busybox")
	if _, err := os.Stat(file); err != nil {
		file = filepath.Join(dir, "usr", "bin", "busybox")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	list, err := exec.CommandContext(ctx, file, "--list-full").Output()
	if err != nil {
		return fmt.Errorf("guest: busybox --list-full: %w", err)
	}
	for _, name := range strings.Fields(string(list)) {
		image.Symlink("/"+name, "/bin/busybox")
	}
	image.File("/bin/busybox", 0o755, initramfs.Owner{}, b)
	return nil
}

func addProgram(image *initramfs.Archive, program string) error {
	b, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	image.File("/init", 0o755, initramfs.Owner{}, b)
	return nil
}

// addModules adds the modules and returns their paths in load order.
func addModules(image *initramfs.Archive, k kernel.Kernel, names []string) ([]string, error) {
	tree, err := k.Tree()
	if err != nil {
		return nil, err
	}
	if names == nil {
		names = slices.DeleteFunc(DefaultModules(), func(name string) bool { return !tree.Has(name) })
	}
	return modules.AddTo(image, tree, names...)
}

func writeTo(file string, image *initramfs.Archive) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	defer f.Close()
	if _, err := image.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}
