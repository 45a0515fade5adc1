package kernel

import (
	"cmp"
	"fmt"
)

// Flavours of Debian's amd64 kernels.
const (
	Full  = "amd64"       // drivers for physical computers; used by hosts
	Cloud = "cloud-amd64" // drivers for virtual machines only; used by guests
)

// Kernel is one kernel of a store.
type Kernel struct {
	ID      string `json:"id"`      // SHA-256 of the image, hex
	Release string `json:"release"` // as uname -r prints it; "" if an imported image does not contain it
	Name    string `json:"name,omitempty"`
	Source  string `json:"source"` // "linux-image-6.12.117+deb12-cloud-amd64 6.12.117-1~deb12u1", or the path of the imported file
	Default bool   `json:"default"`

	Image   string `json:"image"`             // path of the original image: a bzImage, or a vmlinux
	Vmlinux string `json:"vmlinux,omitempty"` // path of the ELF file; "" if the image's compression is not supported
	Modules string `json:"modules,omitempty"` // path of the folder with modules.dep; "" without modules
	// ModulesID is a hash of the modules, which may be replaced while the path stays the same.
	ModulesID string `json:"-"`

	SizeBytes int64 `json:"size_bytes"` // of all its files, on disk
}

// OpenModules opens the kernel's modules.
func (k Kernel) OpenModules() (*Modules, error) {
	if k.Modules == "" {
		label := cmp.Or(k.Name, k.Release, k.ID[:shownID])
		return nil, fmt.Errorf("kernel: %s came without modules: import it again with its modules folder", label)
	}
	return OpenModules(k.Modules)
}
