package kernel

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"minivmm/internal/testbed/kerneltest"
)

// split adds a kernel as Debian packs it since Linux 7: the image package is empty and depends on
// three others.
func (r *repository) split(release, version string) {
	base := "usr/lib/modules/" + release + "/"
	parts := "Depends: dracut, linux-base-" + release + " (= " + version + "), linux-binary-" + release + " (= " + version + "), linux-modules-" + release + " (= " + version + ")\n"
	r.add("linux-image-"+release, version, parts, map[string][]byte{"usr/share/doc/linux-image-" + release + "/README": []byte("doc")})
	r.add("linux-binary-"+release, version, "", map[string][]byte{base + "vmlinuz": kerneltest.BzImage(release + " (debian) #1")})
	r.add("linux-modules-"+release, version, "Depends: kmod\n", map[string][]byte{
		base + "kernel/a.ko": kerneltest.Module("vermagic="+release+" SMP", "depends="),
	})
	r.add("linux-base-"+release, version, "", map[string][]byte{
		base + "modules.order":   []byte("kernel/a.ko\n"),
		base + "modules.builtin": []byte("kernel/drivers/virtio/virtio_pci.ko\n"),
	})
}

func TestAKernelInSeveralPackages(t *testing.T) {
	const release, version = "7.3.4+deb13-cloud-amd64", "7.3.4-1"
	r := newRepository(t)
	r.split(release, version)
	r.meta("linux-image-cloud-amd64", version, release)
	s, _ := r.store()
	for _, name := range []string{"7.3", "", release} {
		k, err := s.Fetch(context.Background(), name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if k.Release != release || filepath.Base(k.Image) != "vmlinuz" {
			t.Errorf("%q is %+v", name, k)
		}
		mods, err := k.OpenModules()
		if err != nil {
			t.Fatal(err)
		}
		if files, err := mods.LoadOrder("a", "virtio_pci"); err != nil || len(files) != 1 {
			t.Errorf("a and virtio_pci: %q, %v; want one file, the other is built in", files, err)
		}
		if _, err := os.Stat(filepath.Join(k.Modules, "vmlinuz")); !os.IsNotExist(err) {
			t.Errorf("the image is among the modules, too: %v", err)
		}
	}
}
