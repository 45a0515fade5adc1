package vmmtest

import (
	"os"
	"path/filepath"
	"testing"

	"minivmm/vmm/boot"
)

// Vmlinux returns the kernel's ELF image, unpacked as minivmm itself does it.
func Vmlinux(t testing.TB, k Kernel) string {
	t.Helper()
	dir := t.TempDir()
	kernel, err := boot.Open(k.Image, boot.Options{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	var found string
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if info, ierr := d.Info(); ierr == nil && info.Size() > 1<<20 {
			found = path
		}
		return err
	})
	if err != nil || found == "" {
		t.Fatalf("no unpacked kernel in %s (%v)", dir, err)
	}
	return found
}
