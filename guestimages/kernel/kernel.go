package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"minivmm/guestimages/debian"
	"minivmm/guestimages/modules"
)

// Flavours of Debian's amd64 kernels.
const (
	Full  = "amd64"       // drivers for real machines; hosts run this one
	Cloud = "cloud-amd64" // drivers for virtual machines only; guests run this one
)

// Kernel is one unpacked kernel.
type Kernel struct {
	Release string // what uname -r says
	Image   string // path of the bzImage, "vmlinuz"
	Modules string // path of the folder that holds modules.dep
}

// Tree opens the kernel's modules.
func (k Kernel) Tree() (*modules.Tree, error) { return modules.Open(k.Modules) }

// Parse splits a kernel's short name, SERIES or SERIES-cloud ("6.12", "6.1-cloud"), into series and flavour.
func Parse(name string) (series, flavour string, err error) {
	series, cloud := strings.CutSuffix(name, "-cloud")
	major, minor, ok := strings.Cut(series, ".")
	if !ok || !isNumber(major) || !isNumber(minor) {
		return "", "", fmt.Errorf("kernel: %q is not a kernel: want a series like 6.12 or 6.1, or with its cloud flavour 6.12-cloud", name)
	}
	if cloud {
		return series, Cloud, nil
	}
	return series, Full, nil
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Get returns the kernel of that series and flavour, fetched if need be.
func Get(ctx context.Context, a *debian.Archive, series, flavour string) (Kernel, error) {
	pkg, err := find(ctx, a, series, flavour)
	if err != nil {
		return Kernel{}, err
	}
	p, err := a.Fetch(ctx, pkg, func(ctx context.Context, dir string) error {
		if err := a.Install(ctx, "unpacking a kernel", "kmod"); err != nil {
			return err
		}
		k, err := in(dir)
		if err != nil {
			return err
		}
		return depmod(ctx, dir, k.Release)
	})
	if err != nil {
		return Kernel{}, err
	}
	return in(p.Dir)
}

// find names the package that holds the kernel. Debian's default kernel has a meta package without a series in its name,
// others have one with it.
func find(ctx context.Context, a *debian.Archive, series, flavour string) (string, error) {
	for _, meta := range []string{"linux-image-" + series + "-" + flavour, "linux-image-" + flavour} {
		version, err := a.Version(ctx, meta)
		if errors.Is(err, debian.ErrNotOffered) {
			continue
		}
		if err != nil {
			return "", err
		}
		if !strings.HasPrefix(version, series+".") {
			continue
		}
		deps, err := a.Depends(ctx, meta)
		if err != nil {
			return "", err
		}
		for _, dep := range deps {
			if strings.HasPrefix(dep, "linux-image-") {
				return dep, nil
			}
		}
	}
	return "", fmt.Errorf("kernel: no linux-image package of series %s, flavour %s: %w", series, flavour, debian.ErrNotOffered)
}

// in finds the kernel in an unpacked package. Newer packages keep modules in usr/lib.
func in(dir string) (Kernel, error) {
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel: %w", err)
	}
	if len(images) != 1 {
		return Kernel{}, fmt.Errorf("kernel: %d images in %s, want one", len(images), dir)
	}
	release := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	for _, lib := range []string{"lib", "usr/lib"} {
		mods := filepath.Join(dir, lib, "modules", release)
		if _, err := os.Stat(mods); err == nil {
			return Kernel{Release: release, Image: images[0], Modules: mods}, nil
		}
	}
	return Kernel{}, fmt.Errorf("kernel: no modules for %s in %s", release, dir)
}

// depmod writes modules.dep and its siblings; Debian does this when a kernel is installed, which ours is not.
func depmod(ctx context.Context, dir, release string) error {
	path, err := exec.LookPath("depmod")
	if err != nil {
		path = "/sbin/depmod"
	}
	// depmod looks into lib/modules only; in newer packages that is usr/lib/modules.
	if _, err := os.Stat(filepath.Join(dir, "lib")); errors.Is(err, os.ErrNotExist) {
		if err := os.Symlink("usr/lib", filepath.Join(dir, "lib")); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
	}
	out, err := exec.CommandContext(ctx, path, "-b", dir, release).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kernel: depmod %s: %w: %s", release, err, strings.TrimSpace(string(out)))
	}
	return nil
}
