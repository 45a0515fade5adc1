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
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// sampled is how many modules are checked in a package, or in a folder with a modules.dep.
const sampled = 64

// modulesFolder returns the path of a kernel's modules in the kernel's folder. Without a release,
// the path contains 0.0.0, because depmod(8) requires one.
func modulesFolder(r *record) string { return "lib/modules/" + cmp.Or(r.Release, "0.0.0") }

func modulesIn(entry string, r *record) string {
	return filepath.Join(entry, filepath.FromSlash(modulesFolder(r)))
}

// finishModules creates the lists of the modules in entry if they are missing, checks the modules
// and records them.
func finishModules(ctx context.Context, entry string, r *record) error {
	dir := modulesIn(entry, r)
	sample := sampled
	if _, err := os.Stat(filepath.Join(dir, "modules.dep")); errors.Is(err, fs.ErrNotExist) {
		if err := depmod(ctx, entry, path.Base(modulesFolder(r))); err != nil {
			return err
		}
		// depmod leaves out dependencies that it does not find, so all modules are checked,
		// except those of a package, which is complete.
		if r.Package == "" {
			sample = 0
		}
	}
	tree, err := OpenModules(dir)
	if err != nil {
		return err
	}
	if err := tree.Check(ctx, r.Release, sample); err != nil {
		return err
	}
	if r.ModulesID, err = hashModules(dir); err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	r.Modules = modulesFolder(r)
	return nil
}

// hashModules returns a hash of the names and contents of all modules. They determine the lists.
func hashModules(dir string) (string, error) {
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !isModule(path) {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		one := sha256.New()
		if _, err := io.Copy(one, f); err != nil {
			return err
		}
		fmt.Fprintf(sum, "%q %x\n", strings.TrimPrefix(path, dir), one.Sum(nil))
		return nil
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

func isModule(path string) bool {
	suffixes := []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}
	return slices.ContainsFunc(suffixes, func(suffix string) bool { return strings.HasSuffix(path, suffix) })
}

// depmod writes modules.dep and related lists, as Debian does when a kernel is installed.
func depmod(ctx context.Context, dir, release string) error {
	tool, err := exec.LookPath("depmod")
	if err != nil {
		tool = "/sbin/depmod"
	}
	out, err := exec.CommandContext(ctx, tool, "-b", dir, release).CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("kernel: depmod, which creates the lists of the modules, is not installed: install the package kmod: %w", errors.ErrUnsupported)
	case err != nil:
		return fmt.Errorf("kernel: depmod %s: %w: %s", release, err, strings.TrimSpace(string(out)))
	}
	return nil
}
