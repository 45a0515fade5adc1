package qemu

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
)

// QEMU is a built QEMU with the firmware and option ROMs that it needs.
type QEMU struct {
	Binary  string   // path of qemu-system-x86_64
	Folders []string // folders with firmware and option ROMs; each needs an option -L of its own
}

// release is the Debian release whose QEMU is built. It may differ from the release on this
// computer.
const release = "trixie"

// buildPackages are required to unpack, configure and compile QEMU. Running QEMU requires the
// libraries in these packages.
var buildPackages = []string{
	"ninja-build", "gcc", "libc6-dev", "make", "pkg-config", "flex", "bison", "python3-venv", "dpkg-dev", "xz-utils",
	"libglib2.0-dev", "libfdt-dev", "libattr1-dev", "libcap-ng-dev", "zlib1g-dev",
}

// configure disables everything that an emulated host does not use.
var configure = []string{
	"--target-list=x86_64-softmmu", "--without-default-features",
	"--enable-tcg", "--enable-fdt=system", "--enable-virtfs", "--enable-attr", "--enable-cap-ng",
	"--disable-docs", "--disable-werror", "--disable-debug-info", "--disable-install-blobs", "--disable-download", "--python=/usr/bin/python3",
}

// Get returns the corrected QEMU. The first call builds it, which takes minutes.
func Get(ctx context.Context, c *cache.Cache, machine *debian.Archive) (QEMU, error) {
	a := machine.Suite(release)
	version, err := a.SourceVersion(ctx, "qemu")
	if err != nil {
		return QEMU{}, err
	}
	recipe := sha256.Sum256([]byte(strings.Join(configure, " ") + callLine + clearLine))
	name := fmt.Sprintf("qemu/%s-%x", strings.ReplaceAll(version, ":", "%3a"), recipe[:4])
	dir, err := c.Make(ctx, name, func(ctx context.Context, tmp string) error {
		return build(ctx, c, a, version, tmp)
	})
	if err != nil {
		return QEMU{}, fmt.Errorf("qemu %s: %w", version, err)
	}
	q := QEMU{Binary: filepath.Join(dir, "qemu-system-x86_64")}
	for _, rom := range []struct{ pkg, folder string }{{"qemu-system-data", "usr/share/qemu"}, {"seabios", "usr/share/seabios"}} {
		pkg, err := a.Fetch(ctx, rom.pkg)
		if err != nil {
			return QEMU{}, err
		}
		q.Folders = append(q.Folders, filepath.Join(pkg, filepath.FromSlash(rom.folder)))
	}
	return q, nil
}

// build creates the folder named by to, and puts the binary there. It compiles in a second folder
// next to the first, and deletes the second folder at the end.
func build(ctx context.Context, c *cache.Cache, a *debian.Archive, version, to string) error {
	start := time.Now()
	c.Logf("building QEMU %s with one line added (once, about 5 minutes on two cores)", version)
	if err := a.Install(ctx, "building QEMU", buildPackages...); err != nil {
		return err
	}
	// This computer's own meson may be too old. The fetched meson runs from the folder into which
	// it is unpacked.
	meson, err := a.Fetch(ctx, "meson")
	if err != nil {
		return err
	}
	src := to + ".src"
	defer os.RemoveAll(src)
	if err := a.Source(ctx, "qemu", src); err != nil {
		return err
	}
	if err := correctTree(src); err != nil {
		return err
	}
	c.Logf("fetched QEMU's source in %s, now compiling", time.Since(start).Round(time.Second))
	objects := filepath.Join(src, "build-minivmm")
	if err := os.Mkdir(objects, 0o755); err != nil {
		return err
	}
	modules := "PYTHONPATH=" + filepath.Join(meson, "usr/lib/python3/dist-packages")
	if err := run(ctx, objects, modules, "../configure", configure...); err != nil {
		return err
	}
	if err := run(ctx, objects, modules, "ninja", "qemu-system-x86_64"); err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(objects, "qemu-system-x86_64"), filepath.Join(to, "qemu-system-x86_64")); err != nil {
		return err
	}
	c.Logf("built QEMU in %s", time.Since(start).Round(time.Second))
	return nil
}

// correctTree corrects the source file that helper names, in the source tree at the path src.
func correctTree(src string) error {
	path := filepath.Join(src, filepath.FromSlash(helper))
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoPlace, err)
	}
	corrected, err := correct(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", helper, err)
	}
	return os.WriteFile(path, []byte(corrected), 0o644)
}

func run(ctx context.Context, dir, env, tool string, args ...string) error {
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		return fmt.Errorf("%s: %w\n%s", filepath.Base(tool), err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
	return nil
}
