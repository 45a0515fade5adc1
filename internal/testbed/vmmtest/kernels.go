package vmmtest

import (
	"os"
	"path/filepath"
	"testing"

	"minivmm/vmm/boot"
)

// Vmlinux returns the path of the kernel's ELF image. The store keeps it next to the image;
// otherwise Vmlinux unpacks it for this test.
func Vmlinux(t testing.TB, k Kernel) string {
	t.Helper()
	stored := filepath.Join(filepath.Dir(k.Image), "vmlinux")
	if _, err := os.Stat(stored); err == nil {
		return stored
	}
	image, err := os.Open(k.Image)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "vmlinux"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := boot.Unpack(image, out); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}
