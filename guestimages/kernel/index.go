package kernel

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// index is the content of the index file.
type index struct {
	Default string   `json:"default,omitempty"` // the ID of the default kernel
	Kernels []record `json:"kernels"`           // in the order in which they were added
}

// record is a kernel in the index. Paths are slash separated and relative to the kernel's folder.
type record struct {
	ID      string `json:"id"`
	Release string `json:"release,omitempty"`
	Name    string `json:"name,omitempty"`
	Source  string `json:"source"`
	Package string `json:"package,omitempty"` // the Debian package; "" for an imported kernel
	Version string `json:"version,omitempty"`

	Image     string `json:"image"`
	Vmlinux   string `json:"vmlinux,omitempty"`
	Modules   string `json:"modules,omitempty"`
	ModulesID string `json:"modules_id,omitempty"` // hash of the module files
	SizeBytes int64  `json:"size_bytes"`

	Files   []string `json:"files,omitempty"`   // keys of files with this image, see fileKey
	Unasked bool     `json:"unasked,omitempty"` // added only because a VM booted it
}

// readIndex returns the index, which is empty if the file does not exist.
func (s *Store) readIndex() (*index, error) {
	text, err := s.cache.Read(indexName)
	if errors.Is(err, fs.ErrNotExist) {
		return &index{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	var x index
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		return nil, fmt.Errorf("kernel: %s is damaged (%w): remove it and its folder, and fetch or import kernels again", s.cache.Path(indexName), err)
	}
	return &x, nil
}

// matching returns the records that the given function accepts.
func (x *index) matching(is func(record) bool) []record {
	return slices.DeleteFunc(slices.Clone(x.Kernels), func(r record) bool { return !is(r) })
}

func (x *index) remove(id string) {
	x.Kernels = slices.DeleteFunc(x.Kernels, func(r record) bool { return r.ID == id })
	if x.Default == id {
		x.Default = ""
	}
}

// put adds r at the end, and removes an older record with the same ID. If another kernel has r's
// name, that kernel loses the name.
func (x *index) put(r record) {
	x.Kernels = slices.DeleteFunc(x.Kernels, func(old record) bool { return old.ID == r.ID })
	for i := range x.Kernels {
		if r.Name != "" && x.Kernels[i].Name == r.Name {
			x.Kernels[i].Name = ""
		}
	}
	x.Kernels = append(x.Kernels, r)
}
