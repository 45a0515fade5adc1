package vmm_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// arrows says what of this module each package may import: itself, what is
// listed, and what is below what is listed ("/..."). Tests may import more.
var arrows = map[string][]string{
	"kvm":                            {},
	"vhost":                          {"devices/procfs"},
	"vhost/vhosttest":                {},
	"vhost/proof":                    {},
	"devices/filelock":               {},
	"devices/procfs":                 {},
	"vhost/lio":                      {"devices/diskimage", "devices/procfs"},
	"devices/diskimage":              {"devices/filelock"},
	"devices/guestmem":               {},
	"devices/bus":                    {},
	"devices/pci":                    {"devices/bus"},
	"devices/serial":                 {"devices/bus"},
	"devices/virtio":                 {"devices/guestmem"},
	"devices/virtio/queue":           {"devices/virtio", "devices/guestmem"},
	"devices/virtio/queue/queuetest": {"devices/virtio", "devices/virtio/queue", "devices/guestmem"},
	"devices/virtio/virtiotest":      {"devices/virtio", "devices/virtio/queue/queuetest", "devices/guestmem"},
	"devices/virtio/virtiopci":       {"devices/virtio", "devices/pci", "devices/bus", "devices/guestmem"},
	"devices/virtio/kernel":          {"devices/virtio", "devices/guestmem", "vhost"},
	"devices/virtio/net":             {"devices/virtio", "devices/virtio/kernel", "devices/virtio/queue", "devices/guestmem", "vhost"},
	"devices/virtio/scsi":            {"devices/virtio", "devices/virtio/kernel", "devices/virtio/queue", "devices/virtio/scsi/target", "devices/guestmem", "vhost"},
	"devices/virtio/scsi/target":     {"devices/diskimage"},
	"devices/lan":                    {"devices/filelock", "devices/procfs"},
	"devices/pcap":                   {},
	"devices/virtio/net/usernet":     {"devices/virtio", "devices/virtio/net", "devices/virtio/queue", "devices/lan", "devices/pcap"},
	"devices/virtio/rng":             {"devices/virtio", "devices/virtio/queue", "devices/guestmem"},
	"devices/virtio/console":         {"devices/virtio", "devices/virtio/queue"},
	"vmm/account":                    {"devices/procfs"},
	"vmm/control":                    {"vmm/account", "devices/procfs"},
	"vmm/acpi":                       {},
	"vmm/config":                     {},
	"vmm/cgroup":                     {"devices/procfs"},
	"vmm/namespace":                  {},
	"vmm/boot":                       {"devices/guestmem"},
	"vmm":                            {"kvm", "vhost/...", "devices/...", "vmm/account", "vmm/acpi", "vmm/boot", "vmm/cgroup", "vmm/config"},
	"vmm/bench":                      {},
	"vmm/vmmtest":                    {"vmm", "vmm/boot", "vmm/config", "guestimages/..."},
	"guestimages/...":                {"guestimages/...", "kvm", "devices/filelock", "vmm", "vmm/boot", "vmm/config"},
	"cmd/minivmm":                    {"guestimages/...", "vmm", "vmm/account", "vmm/config", "vmm/control", "vmm/namespace"},
}

// TestArrows keeps the packages' dependencies as vmm/doc.go tells them, and
// unsafe in the files that are named for it.
func TestArrows(t *testing.T) {
	const module = "minivmm/"
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || d.Name() == "build") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))
		allowed, known := lookup(pkg)
		if !known {
			t.Errorf("%s: the table of arrows does not know package %s", path, pkg)
		}
		isTest := strings.HasSuffix(path, "_test.go")
		for _, spec := range file.Imports {
			imported := strings.Trim(spec.Path.Value, `"`)
			if imported == "unsafe" && !strings.HasSuffix(path, "_unsafe.go") && !isTest {
				t.Errorf("%s: unsafe belongs in a file named *_unsafe.go", path)
			}
			to, ours := strings.CutPrefix(imported, module)
			if ours && !isTest && to != pkg && !allows(allowed, to) {
				t.Errorf("%s: %s must not import %s", path, pkg, to)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func lookup(pkg string) ([]string, bool) {
	for row, allowed := range arrows {
		if allows([]string{row}, pkg) {
			return allowed, true
		}
	}
	return nil, false
}

func allows(patterns []string, pkg string) bool {
	for _, p := range patterns {
		if below, ok := strings.CutSuffix(p, "/..."); ok && (pkg == below || strings.HasPrefix(pkg, below+"/")) || p == pkg {
			return true
		}
	}
	return false
}
