package kernel

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"minivmm/internal/workdir"
	"minivmm/vmm/boot"
)

// Names in a kernel's folder. Modules are in lib/modules/RELEASE, where depmod(8) looks for them.
const (
	imageFile   = "vmlinuz"
	vmlinuxFile = "vmlinux"
)

// entry is the folder in a work folder that becomes the kernel's folder.
const entry = "entry"

// add adds a kernel. make puts its files into the folder entry of a work folder and fills in its
// record.
func (s *Store) add(ctx context.Context, makeDefault bool, make func(ctx context.Context, work string, r *record) error) (k Kernel, err error) {
	work, err := s.cache.Work()
	if err != nil {
		return Kernel{}, err
	}
	defer func() { err = errors.Join(err, work.Close()) }()
	dir := filepath.Join(work.Path, entry)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return Kernel{}, fmt.Errorf("kernel: %w", err)
	}
	var r record
	if err := make(ctx, work.Path, &r); err != nil {
		return Kernel{}, err
	}
	if err := ctx.Err(); err != nil {
		return Kernel{}, err
	}
	if r.SizeBytes, err = settle(dir); err == nil {
		err = workdir.Sync(dir)
	}
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel: %w", err)
	}
	err = s.change(ctx, func(x *index) error {
		if err := s.takeIn(x, work.Path, &r); err != nil {
			return err
		}
		if makeDefault {
			x.Default = r.ID
		}
		k = s.kernel(x, r)
		return nil
	})
	return k, err
}

// takeIn moves the folder entry of a work folder to its place and adds its record to the index. If
// the kernel is in the store already, it only gains a new name or new modules; as the kernel's
// source, a package takes precedence over a file.
func (s *Store) takeIn(x *index, work string, r *record) error {
	path := s.path(r.ID)
	if at := slices.IndexFunc(x.Kernels, func(old record) bool { return old.ID == r.ID && s.isThere(old) }); at >= 0 {
		old := x.Kernels[at]
		r.merge(old)
		r.Name = cmp.Or(r.Name, old.Name)
		if r.Package == "" && old.Package != "" {
			r.Package, r.Version, r.Source = old.Package, old.Version, old.Source
		}
		if r.Modules == "" || r.ModulesID == old.ModulesID {
			r.Modules, r.ModulesID, r.SizeBytes = old.Modules, old.ModulesID, old.SizeBytes
			x.put(*r)
			return nil
		}
	}
	defer x.trim()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	if err := os.Rename(path, filepath.Join(work, "replaced")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("kernel: %w", err)
	}
	if err := os.Rename(filepath.Join(work, entry), path); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	x.put(*r)
	return nil
}

// takeImage checks the image in entry, unpacks its vmlinux next to it and records its properties.
func takeImage(entry string, r *record) error {
	f, err := os.Open(filepath.Join(entry, imageFile))
	if err != nil {
		return err
	}
	defer f.Close()
	out, err := os.OpenFile(filepath.Join(entry, vmlinuxFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	image, err := boot.Unpack(f, out)
	if err != nil {
		return err
	}
	unpacked, err := out.Stat()
	if err != nil {
		return err
	}
	r.Image, r.Vmlinux = imageFile, vmlinuxFile
	switch {
	case image.NotUnpacked != nil:
		r.Vmlinux = ""
		err = os.Remove(out.Name())
	case unpacked.Size() == 0: // a vmlinux itself
		r.Image = vmlinuxFile
		err = os.Rename(f.Name(), out.Name())
	}
	if err != nil {
		return err
	}
	r.Release, _, _ = strings.Cut(image.Version, " ")
	// The release becomes the name of a folder and an argument of depmod.
	if strings.ContainsRune(r.Release, '/') || strings.HasPrefix(r.Release, ".") || strings.HasPrefix(r.Release, "-") {
		return fmt.Errorf("it reports release %q", r.Release)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return err
	}
	r.ID = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// settle revokes the write permission of group and others, and returns the space used on disk.
func settle(dir string) (sizeBytes int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		if d.Type().IsRegular() {
			sizeBytes += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		if info.Mode().Perm()&0o022 != 0 {
			return os.Chmod(path, info.Mode().Perm()&^0o022)
		}
		return nil
	})
	return sizeBytes, err
}
