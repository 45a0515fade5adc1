package kernel

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

const dep = `kernel/drivers/vhost/vhost.ko.xz: kernel/drivers/vhost/vhost_iotlb.ko.xz
kernel/drivers/vhost/vhost_iotlb.ko.xz:
kernel/drivers/vhost/vhost_net.ko.xz: kernel/drivers/net/tap.ko.xz kernel/drivers/vhost/vhost.ko.xz kernel/drivers/vhost/vhost_iotlb.ko.xz kernel/drivers/net/tun.ko.xz
kernel/drivers/net/tap.ko.xz: kernel/drivers/net/tun.ko.xz
kernel/drivers/net/tun.ko.xz:
kernel/arch/x86/kvm/kvm-amd.ko: kernel/drivers/virtio/virtio.ko

`

const builtin = "kernel/drivers/virtio/virtio.ko\n"

func testTree(t *testing.T, dep string) *Modules {
	t.Helper()
	tree, err := parse(dep, builtin)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestEveryModuleComesAfterWhatItNeeds(t *testing.T) {
	tree := testTree(t, dep)
	order, err := tree.LoadOrder("vhost_net", "kvm_amd", "vhost-net", "virtio", "tun")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"kernel/drivers/net/tun.ko.xz",
		"kernel/drivers/net/tap.ko.xz",
		"kernel/drivers/vhost/vhost_iotlb.ko.xz",
		"kernel/drivers/vhost/vhost.ko.xz",
		"kernel/drivers/vhost/vhost_net.ko.xz",
		"kernel/arch/x86/kvm/kvm-amd.ko",
	}
	if !slices.Equal(order, want) {
		t.Errorf("got %q\nwant %q", order, want)
	}
}

func TestUnknownModuleIsNamed(t *testing.T) {
	tree := testTree(t, dep)
	if _, err := tree.LoadOrder("tun", "no_such"); err == nil || !strings.Contains(err.Error(), "no module no_such") {
		t.Errorf("got %v", err)
	}
	if tree.Has("no_such") || !tree.Has("virtio") || !tree.Has("kvm-amd") {
		t.Error("Has is wrong about no_such, virtio (built in) or kvm-amd (a file)")
	}
}

func TestCircularDependencyIsRefused(t *testing.T) {
	tree := testTree(t, "a.ko: b.ko\nb.ko: a.ko\n")
	if _, err := tree.LoadOrder("a"); err == nil {
		t.Error("a circular dependency was put in order")
	}
}

func TestLineWithoutColonIsRefused(t *testing.T) {
	if _, err := parse("kernel/a.ko\n", ""); err == nil {
		t.Error("a modules.dep without colons was accepted")
	}
}

func TestAPathOutOfTheFolderIsRefused(t *testing.T) {
	for _, file := range []string{"../a.ko", "k/../../a.ko", "/lib/modules/a.ko"} {
		if _, err := parse(file+":\n", ""); err == nil {
			t.Errorf("%s was accepted", file)
		}
	}
}

func TestReadUnpacks(t *testing.T) {
	want := []byte("\x7fELF module\n")
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"a.ko": want, "a.ko.zst": w.EncodeAll(want, nil)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := (&Modules{dir: dir}).Read(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestAliasesAreThoseOfTheWantedModules(t *testing.T) {
	const text = `# Aliases extracted from modules themselves.
alias virtio:d00000008v* virtio_scsi
alias scsi:t-0x00* sd_mod
alias fs-ext4 ext4
alias crypto-crc32c crc32c_intel
alias crypto-crc32c-intel crc32c_intel
broken line
`
	dir := t.TempDir()
	write(t, filepath.Join(dir, "modules.alias"), []byte(text))
	got, err := (&Modules{dir: dir}).Aliases("virtio-scsi", "crc32c_intel", "overlay")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"virtio:d00000008v*"}; !slices.Equal(got["virtio_scsi"], want) {
		t.Errorf("virtio_scsi: got %q, want %q", got["virtio_scsi"], want)
	}
	if want := []string{"crypto-crc32c", "crypto-crc32c-intel"}; !slices.Equal(got["crc32c_intel"], want) {
		t.Errorf("crc32c_intel: got %q, want %q", got["crc32c_intel"], want)
	}
	if len(got["overlay"]) != 0 || len(got["sd_mod"]) != 0 {
		t.Errorf("got %q", got)
	}
}
