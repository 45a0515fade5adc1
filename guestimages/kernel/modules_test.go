package kernel

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/internal/testbed/kerneltest"
)

// folderOf writes a modules folder.
func folderOf(t testing.TB, files map[string][]byte) string {
	dir := t.TempDir()
	for name, b := range files {
		write(t, filepath.Join(dir, name), b)
	}
	return dir
}

func TestModulesComeWithTheirKernel(t *testing.T) {
	const magic = "vermagic=" + mine + " SMP mod_unload "
	s := newStore(t)
	path := image(t, mine)
	sound := map[string][]byte{
		"modules.dep":  []byte("kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n"),
		"kernel/a.ko":  kerneltest.Module(magic, "depends=b"),
		"kernel/b.ko":  kerneltest.Module(magic, "depends="),
		"modules.note": []byte("x"),
	}
	dir := folderOf(t, sound)
	for _, link := range []string{"build", "source"} {
		if err := os.Symlink("/usr/src", filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	mustImport(t, s, path, ImportOptions{Default: true})
	k := mustImport(t, s, path, ImportOptions{Modules: dir})
	if !k.Default || filepath.Base(k.Modules) != mine {
		t.Errorf("got %+v", k)
	}
	tree, err := k.OpenModules()
	if err != nil {
		t.Fatal(err)
	}
	if order, err := tree.LoadOrder("a"); err != nil || len(order) != 2 {
		t.Errorf("got %v, %v", order, err)
	}
	if list, err := os.ReadDir(k.Modules); err != nil || len(list) != 3 {
		t.Errorf("the folder holds %v, %v", list, err)
	}
	wantWhole(t, s, 1)

	// Imports without modules, and with the same modules in a folder for make modules_install.
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "lib/modules"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(root, "lib/modules", mine)); err != nil {
		t.Fatal(err)
	}
	for _, o := range []ImportOptions{{}, {Modules: root}} {
		if again := mustImport(t, s, path, o); again != k {
			t.Errorf("got %+v, want %+v", again, k)
		}
	}

	sound["kernel/b.ko"] = kerneltest.Module(magic, "depends=", "license=GPL")
	mustImport(t, s, path, ImportOptions{Modules: folderOf(t, sound)})
	if b, err := os.ReadFile(filepath.Join(k.Modules, "kernel/b.ko")); err != nil || string(b) != string(sound["kernel/b.ko"]) {
		t.Errorf("changed modules were not imported: %v", err)
	}
	wantWhole(t, s, 1)
}

func TestDepmodMakesTheListsThatAreNotThere(t *testing.T) {
	if _, err := os.Stat("/sbin/depmod"); err != nil {
		if _, err := exec.LookPath("depmod"); err != nil {
			t.Fatal("no depmod: apt-get install kmod")
		}
	}
	s := newStore(t)
	const magic = "vermagic=" + mine + " SMP "
	k := mustImport(t, s, image(t, mine), ImportOptions{Modules: folderOf(t, map[string][]byte{"extra/a.ko": kerneltest.Module(magic)})})
	tree, err := k.OpenModules()
	if err != nil || !tree.Has("a") {
		t.Errorf("got %+v, %v", tree, err)
	}
	// depmod itself leaves out dependencies that it does not find.
	_, err = s.Import(t.Context(), image(t, mine+" #2"), ImportOptions{Modules: folderOf(t, map[string][]byte{"extra/a.ko": kerneltest.Module(magic, "depends=b")})})
	if err == nil || !strings.Contains(err.Error(), "a requires b") {
		t.Errorf("got %v", err)
	}
	wantWhole(t, s, 1)
}

func TestModulesThatDoNotFitAreRefused(t *testing.T) {
	const magic = "vermagic=" + mine + " SMP "
	for name, tt := range map[string]struct {
		files map[string][]byte
		want  string
	}{
		"nothing":                {map[string][]byte{"README": nil}, "contains neither modules.dep nor modules"},
		"another kernel's":       {map[string][]byte{"modules.dep": []byte("a.ko:\n"), "a.ko": kerneltest.Module("vermagic=6.1.0 SMP")}, "a.ko was built for kernel 6.1.0, not " + mine},
		"a dependency's file":    {map[string][]byte{"modules.dep": []byte("a.ko: b.ko\nb.ko:\n"), "a.ko": kerneltest.Module(magic)}, "a requires b, whose file b.ko does not exist"},
		"a dependency":           {map[string][]byte{"modules.dep": []byte("a.ko: b.ko\n"), "a.ko": kerneltest.Module(magic)}, "a requires b, which is neither a file nor built in"},
		"damaged modules.dep":    {map[string][]byte{"modules.dep": []byte("a.ko\n"), "a.ko": kerneltest.Module(magic)}, "no colon"},
		"a damaged xz":           {map[string][]byte{"modules.dep": []byte("a.ko.xz:\n"), "a.ko.xz": []byte("\xfd7zXZ\x00xx")}, "a.ko.xz"},
		"a module that is short": {map[string][]byte{"modules.dep": []byte("a.ko:\n"), "a.ko": kerneltest.Module(magic)[:60]}, "a.ko: not a module"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			path, dir := image(t, mine), folderOf(t, tt.files)
			_, err := s.Import(t.Context(), path, ImportOptions{Modules: dir})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want the folder and %q", err, tt.want)
			}
			if err != nil && name != "damaged modules.dep" && strings.Contains(err.Error(), s.cache.Root) {
				t.Errorf("the error names the cache: %v", err)
			}
			wantWhole(t, s, 0)
		})
	}
	s := newStore(t)
	dangling := folderOf(t, map[string][]byte{"modules.dep": []byte("a.ko:\n")})
	if err := os.Symlink("nowhere", filepath.Join(dangling, "a.ko")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{dangling, "/dev/null", filepath.Join(dangling, "absent")} {
		if _, err := s.Import(t.Context(), image(t, mine), ImportOptions{Modules: dir}); err == nil {
			t.Errorf("%s was accepted", dir)
		}
	}
	wantWhole(t, s, 0)
}
