package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"minivmm/guestimages/debian"
)

// pkg is a kernel package in one version.
type pkg struct{ name, version string }

// Fetch returns the kernel that name selects, see Find. If it is not in the store, Fetch fetches
// it: the newest of a series, or exactly that release or package. For "", it fetches the newest
// cloud kernel that the machine's package sources offer, and makes it the default. On a machine
// without Debian packages the error is debian.ErrNoApt.
func (s *Store) Fetch(ctx context.Context, name string) (Kernel, error) {
	k, err := s.Find(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s.fetchCurrent(ctx, name)
	}
	return k, err
}

// Get is like Fetch, but returns the kernel that the archive offers, even if the store has an older
// one of that series. It installs the programs that unpacking requires.
func Get(ctx context.Context, a *debian.Archive, name string) (Kernel, error) {
	s := OpenWith(a)
	s.install = true
	return s.fetchCurrent(ctx, name)
}

// Refresh is like Fetch, but first queries the archive again, and returns the kernel that the
// archive offers now. An older kernel in the store stays there. For "", the new one becomes the
// default.
func (s *Store) Refresh(ctx context.Context, name string) (Kernel, error) {
	if name != "" {
		if _, err := parseRequest(name); err != nil {
			return Kernel{}, err
		}
	}
	if err := s.archive.Forget(ctx); err != nil {
		return Kernel{}, err
	}
	return s.fetchCurrent(ctx, name)
}

// resolve returns the package that name selects among those that the archive offers.
func (s *Store) resolve(ctx context.Context, name string) (pkg, error) {
	if name == "" {
		return s.newest(ctx)
	}
	q, err := parseRequest(name)
	switch {
	case err != nil:
		return pkg{}, err
	case q.series != "":
		return s.newestOf(ctx, q.series, q.flavour)
	}
	return s.behind(ctx, q.pkg)
}

// behind returns the kernel package that the meta package name depends on, or name itself.
func (s *Store) behind(ctx context.Context, name string) (pkg, error) {
	version, err := s.archive.Version(ctx, name)
	if err != nil {
		return pkg{}, err
	}
	deps, err := s.archive.Depends(ctx, name)
	if err != nil {
		return pkg{}, err
	}
	if at := slices.IndexFunc(deps, func(dep string) bool { return strings.HasPrefix(dep, imagePackage) }); at >= 0 {
		name = deps[at]
		version, err = s.archive.Version(ctx, name)
	}
	return pkg{name, version}, err
}

// newestOf returns the newest package of a series. The meta package of Debian's default kernel has
// no series in its name; those of other kernels do.
func (s *Store) newestOf(ctx context.Context, series, flavour string) (pkg, error) {
	for _, meta := range []string{imagePackage + series + "-" + flavour, imagePackage + flavour} {
		version, err := s.archive.Version(ctx, meta)
		if err != nil && !errors.Is(err, debian.ErrNotOffered) {
			return pkg{}, err
		}
		if strings.HasPrefix(version, series+".") {
			return s.behind(ctx, meta)
		}
	}
	return pkg{}, fmt.Errorf("kernel: no linux-image package of series %s, flavour %s: %w", series, flavour, debian.ErrNotOffered)
}

// newest returns the newest of all cloud kernels.
func (s *Store) newest(ctx context.Context) (pkg, error) {
	names, err := s.archive.Names(ctx, imagePackage)
	if err != nil {
		return pkg{}, err
	}
	meta := regexp.MustCompile(`^linux-image-([0-9]+\.[0-9]+-)?` + Cloud + `$`)
	var best pkg
	for _, name := range names {
		if !meta.MatchString(name) {
			continue
		}
		version, err := s.archive.Version(ctx, name)
		if err != nil && !errors.Is(err, debian.ErrNotOffered) {
			return pkg{}, err
		}
		if err == nil && debian.CompareVersions(version, best.version) > 0 {
			best = pkg{name, version}
		}
	}
	if best.name == "" {
		return pkg{}, fmt.Errorf("kernel: no package linux-image-%s: %w", Cloud, debian.ErrNotOffered)
	}
	return s.behind(ctx, best.name)
}

// fetch returns the kernel of that package, and fetches it if it is not in the store.
func (s *Store) fetch(ctx context.Context, p pkg, makeDefault bool) (Kernel, error) {
	if k, err := s.ofPackage(ctx, p, makeDefault); !errors.Is(err, os.ErrNotExist) {
		return k, err
	}
	// One process fetches, the others wait.
	unlock, err := s.cache.Lock(ctx, folder+"/"+p.name+"/"+p.version)
	if err != nil {
		return Kernel{}, err
	}
	defer unlock()
	if k, err := s.ofPackage(ctx, p, makeDefault); !errors.Is(err, os.ErrNotExist) {
		return k, err
	}
	return s.add(ctx, makeDefault, func(ctx context.Context, work string, r *record) error {
		if s.install {
			if err := s.archive.Install(ctx, "unpacking a kernel", "kmod"); err != nil {
				return err
			}
		}
		dir := filepath.Join(work, "package")
		parts, err := s.parts(ctx, p)
		if err != nil {
			return err
		}
		for _, part := range parts {
			if err := s.archive.Unpack(ctx, part, p.version, dir); err != nil {
				return err
			}
		}
		r.Package, r.Version, r.Source = p.name, p.version, p.name+" "+p.version
		s.cache.Logf("unpacking and checking %s", p.name)
		return takePackage(ctx, dir, filepath.Join(work, entry), r)
	})
}

// parts returns the packages that contain the kernel's files. Since Debian's Linux 7, the image
// package is empty and depends on a package with the image, one with the modules and one with the
// list of what is built in, all of the same version.
func (s *Store) parts(ctx context.Context, p pkg) ([]string, error) {
	deps, err := s.archive.Depends(ctx, p.name)
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, prefix := range []string{"linux-binary-", "linux-modules-", "linux-base-"} {
		if name := prefix + strings.TrimPrefix(p.name, imagePackage); slices.Contains(deps, name) {
			parts = append(parts, name)
		}
	}
	if parts == nil {
		parts = []string{p.name}
	}
	return parts, nil
}

// fetchCurrent fetches the package that name selects. If the download fails, it queries the archive
// again, once: the archive may have replaced the package since the package lists were read.
func (s *Store) fetchCurrent(ctx context.Context, name string) (Kernel, error) {
	p, err := s.resolve(ctx, name)
	if err != nil {
		return Kernel{}, err
	}
	k, err := s.fetch(ctx, p, name == "")
	var tool *debian.ToolError
	if ctx.Err() != nil || !errors.As(err, &tool) || tool.Verb != "download" {
		return k, err
	}
	s.cache.Logf("cannot download %s %s: looking for a newer version", p.name, p.version)
	if ferr := s.archive.Forget(ctx); ferr != nil {
		return Kernel{}, errors.Join(err, ferr)
	}
	current, rerr := s.resolve(ctx, name)
	if rerr != nil || current == p {
		return Kernel{}, errors.Join(err, rerr)
	}
	return s.fetch(ctx, current, name == "")
}

// ofPackage returns the kernel in the store that came from that package.
func (s *Store) ofPackage(ctx context.Context, p pkg, makeDefault bool) (Kernel, error) {
	found, err := s.lookUp(func(x *index) ([]record, error) {
		return x.matching(func(r record) bool { return r.Package == p.name && r.Version == p.version }), nil
	})
	if err != nil {
		return Kernel{}, err
	}
	if len(found) == 0 {
		return Kernel{}, notHereError(p.name)
	}
	k := found[0]
	if makeDefault && !k.Default {
		if err := s.SetDefault(ctx, k.ID); err != nil {
			return Kernel{}, err
		}
		k.Default = true
	}
	return k, nil
}

// takePackage moves the kernel of an unpacked package to the folder entry. Newer packages contain
// the modules in usr/lib; in the newest, the image is next to the modules.
func takePackage(ctx context.Context, dir, entry string, r *record) error {
	var images []string
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
		images = append(images, found...)
	}
	if len(images) != 1 {
		return fmt.Errorf("kernel: package %s contains %d images (boot/vmlinuz-* or usr/lib/modules/*/vmlinuz), want one", r.Package, len(images))
	}
	named := strings.TrimPrefix(filepath.Base(images[0]), "vmlinuz-")
	if named == "vmlinuz" {
		named = filepath.Base(filepath.Dir(images[0]))
	}
	if err := os.Rename(images[0], filepath.Join(entry, imageFile)); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err := takeImage(entry, r); err != nil {
		return fmt.Errorf("kernel: package %s: %w", r.Package, err)
	}
	if named != r.Release {
		return fmt.Errorf("kernel: package %s: its image for kernel %s reports release %q", r.Package, named, r.Release)
	}
	for _, lib := range []string{"lib", "usr/lib"} {
		mods := filepath.Join(dir, lib, "modules", r.Release)
		if _, err := os.Stat(mods); err != nil {
			continue
		}
		to := modulesIn(entry, r)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
		if err := os.Rename(mods, to); err != nil {
			return fmt.Errorf("kernel: %w", err)
		}
		return finishModules(ctx, entry, r)
	}
	return fmt.Errorf("kernel: package %s contains no modules for %s", r.Package, r.Release)
}
