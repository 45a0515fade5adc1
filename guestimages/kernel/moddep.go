package modules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Tree is one kernel's modules: the content of /lib/modules/RELEASE.
type Tree struct {
	dir     string
	file    map[string]string   // name -> path below dir
	needs   map[string][]string // name -> names it needs
	builtin map[string]bool
}

// ErrUnknown says that the kernel has a module of that name neither as a file nor built in.
var ErrUnknown = errors.New("no such module")

// Open reads the tree in dir, the folder that holds modules.dep.
func Open(dir string) (*Tree, error) {
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	builtin, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("modules: %w", err)
	}
	t, err := parse(string(dep), string(builtin))
	if err != nil {
		return nil, fmt.Errorf("modules: %s: %w", dir, err)
	}
	t.dir = dir
	return t, nil
}

// parse reads modules.dep, lines of "PATH: PATH...", and modules.builtin, lines of "PATH".
func parse(dep, builtin string) (*Tree, error) {
	t := &Tree{file: map[string]string{}, needs: map[string][]string{}, builtin: map[string]bool{}}
	for line := range strings.Lines(dep) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		file, needs, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("modules.dep: no colon in %q", line)
		}
		// depmod writes paths below the folder; a list that came from elsewhere may say anything.
		if !filepath.IsLocal(file) {
			return nil, fmt.Errorf("modules.dep: %q is not in its folder", file)
		}
		name := nameOf(file)
		t.file[name] = file
		for _, need := range strings.Fields(needs) {
			t.needs[name] = append(t.needs[name], nameOf(need))
		}
	}
	for line := range strings.Lines(builtin) {
		if line = strings.TrimSpace(line); line != "" {
			t.builtin[nameOf(line)] = true
		}
	}
	return t, nil
}

// nameOf turns a path or a name into the kernel's spelling: without folder and suffix, with underscores.
func nameOf(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// Has says whether the kernel has the module, as a file or built in.
func (t *Tree) Has(name string) bool {
	name = nameOf(name)
	return t.builtin[name] || t.file[name] != ""
}

// LoadOrder returns the files, below Dir, of the named modules and of all that they need, each after what it needs.
// Modules that are built in need no loading and are left out; ErrUnknown is wrapped for one the kernel does not have.
func (t *Tree) LoadOrder(names ...string) ([]string, error) {
	var order []string
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(name, by string) error
	visit = func(name, by string) error {
		name = nameOf(name)
		switch {
		case t.builtin[name] || state[name] == done:
			return nil
		case state[name] == visiting:
			return fmt.Errorf("modules: %s needs itself", name)
		case t.file[name] == "" && by != "":
			return fmt.Errorf("modules: %s needs %s, which is not in %s: %w", by, name, t.dir, ErrMissing)
		case t.file[name] == "":
			return fmt.Errorf("modules: %s in %s: %w", name, t.dir, ErrUnknown)
		}
		state[name] = visiting
		for _, need := range t.needs[name] {
			if err := visit(need, name); err != nil {
				return err
			}
		}
		state[name] = done
		order = append(order, t.file[name])
		return nil
	}
	for _, name := range names {
		if err := visit(name, ""); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// Dir is the folder that the tree was opened in.
func (t *Tree) Dir() string { return t.dir }

// Read returns a module file of the tree as the kernel wants it in finit_module(2): unpacked.
func (t *Tree) Read(file string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(t.dir, filepath.FromSlash(file)))
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	b, err = unpack(file, b)
	if err != nil {
		return nil, fmt.Errorf("modules: %s: %w", file, err)
	}
	return b, nil
}
