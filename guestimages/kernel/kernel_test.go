package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNamesOfKernels(t *testing.T) {
	for name, want := range map[string][2]string{
		"6.12":       {"6.12", Full},
		"6.1":        {"6.1", Full},
		"6.12-cloud": {"6.12", Cloud},
	} {
		series, flavour, err := Parse(name)
		if err != nil || series != want[0] || flavour != want[1] {
			t.Errorf("%s: got %q, %q, %v", name, series, flavour, err)
		}
	}
	for _, name := range []string{"", "6", "6.", ".1", "6.12-rt", "6.x", "-cloud", "6.1.2"} {
		if _, _, err := Parse(name); err == nil {
			t.Errorf("%q was taken for a kernel", name)
		}
	}
}

func TestKernelIsFoundInOldAndNewPackages(t *testing.T) {
	for _, lib := range []string{"lib", "usr/lib"} {
		dir := t.TempDir()
		image := filepath.Join(dir, "boot", "vmlinuz-6.12.1-amd64")
		mods := filepath.Join(dir, lib, "modules", "6.12.1-amd64")
		if err := os.MkdirAll(mods, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := in(dir); err == nil {
			t.Error("a package without an image has a kernel")
		}
		if err := os.MkdirAll(filepath.Dir(image), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(image, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		k, err := in(dir)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Kernel{Release: "6.12.1-amd64", Image: image, Modules: mods}); k != want {
			t.Errorf("got %+v, want %+v", k, want)
		}
		if err := os.RemoveAll(mods); err != nil {
			t.Fatal(err)
		}
		if _, err := in(dir); err == nil || !strings.Contains(err.Error(), "no modules") {
			t.Errorf("without modules: %v", err)
		}
	}
}
