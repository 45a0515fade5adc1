package kernel

import (
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
	"strings"
)

// sampled is how many modules are read to see whether those with a modules.dep fit their kernel.
const sampled = 64

// modulesFolder is where a kernel's modules are in its folder. Only depmod(8) minds what a kernel without a release is called.
func modulesFolder(r *record) string {
	release := r.Release
	if release == "" {
		release = "0.0.0"
	}
	return "lib/modules/" + release
}

func modulesIn(entry string, r *record) string {
	return filepath.Join(entry, filepath.FromSlash(modulesFolder(r)))
}

// finishModules makes the lists of the modules that were put into entry if there are none, checks them and notes them.
func finishModules(ctx context.Context, entry string, r *record) error {
	dir := modulesIn(entry, r)
	sample := sampled
	if _, err := os.Stat(filepath.Join(dir, "modules.dep")); errors.Is(err, fs.ErrNotExist) {
		if err := depmod(ctx, entry, path.Base(modulesFolder(r))); err != nil {
			return err
		}
		// What depmod does not find it leaves out without a word; a package is complete.
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

// hashModules is a hash over the names and contents of all modules; the lists follow from them.
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
	for _, suffix := range []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"} {
		if strings.HasSuffix(path, suffix) {
			return true
		}
	}
	return false
}

// depmod writes modules.dep and its siblings; Debian does this when a kernel is installed, which ours is not.
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
		return fmt.Errorf("kernel: modules need lists that depmod makes, and it is not here: install the package kmod: %w", errors.ErrUnsupported)
	case err != nil:
		return fmt.Errorf("kernel: depmod %s: %w: %s", release, err, strings.TrimSpace(string(out)))
	}
	return nil
}
