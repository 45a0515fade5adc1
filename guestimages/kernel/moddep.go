package kernel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"minivmm/internal/unpack"
)

// Modules are the modules of one kernel: the content of /lib/modules/RELEASE.
type Modules struct {
	dir     string
	file    map[string]string   // name -> path below dir
	needs   map[string][]string // name -> names of its dependencies
	builtin map[string]bool
}

// OpenModules reads the tree in dir, the folder with modules.dep.
func OpenModules(dir string) (*Modules, error) {
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

// parse parses modules.dep, lines of "PATH: PATH...", and modules.builtin, lines of "PATH".
func parse(dep, builtin string) (*Modules, error) {
	t := &Modules{file: map[string]string{}, needs: map[string][]string{}, builtin: map[string]bool{}}
	for line := range strings.Lines(dep) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		file, needs, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("modules.dep: no colon in %q", line)
		}
		// depmod writes paths below the folder; other lists may contain any path.
		if !filepath.IsLocal(file) {
			return nil, fmt.Errorf("modules.dep: %q is outside its folder", file)
		}
		name := ModuleName(file)
		t.file[name] = file
		for _, need := range strings.Fields(needs) {
			t.needs[name] = append(t.needs[name], ModuleName(need))
		}
	}
	for _, file := range strings.Fields(builtin) {
		t.builtin[ModuleName(file)] = true
	}
	return t, nil
}

// ModuleName returns the kernel's spelling of a path or name: the base with underscores, no suffix.
func ModuleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// Has reports whether the kernel has the module, as a file or built in.
func (t *Modules) Has(name string) bool {
	name = ModuleName(name)
	return t.builtin[name] || t.file[name] != ""
}

// LoadOrder returns the files of the named modules and of all their dependencies, each after its
// dependencies. Read accepts these names. Built-in modules need no loading and are left out; a
// module that the kernel does not have is an error.
func (t *Modules) LoadOrder(names ...string) ([]string, error) {
	var order []string
	const visiting, done = 1, 2
	state := map[string]int{}
	var visit func(name, by string) error
	visit = func(name, by string) error {
		name = ModuleName(name)
		switch {
		case t.builtin[name] || state[name] == done:
			return nil
		case state[name] == visiting:
			return fmt.Errorf("modules: %s depends on itself", name)
		case t.file[name] == "" && by != "":
			return fmt.Errorf("modules: %s requires %s, which is not in %s", by, name, t.dir)
		case t.file[name] == "":
			return fmt.Errorf("modules: no module %s in %s", name, t.dir)
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

// maxUnpacked limits the size of an unpacked module, in bytes; Debian's largest is a tenth of that.
const maxUnpacked = 256 << 20

// Read returns a module file of the tree unpacked, as finit_module(2) expects it.
func (t *Modules) Read(file string) ([]byte, error) {
	f, err := os.Open(filepath.Join(t.dir, filepath.FromSlash(file)))
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	defer f.Close()
	r, _, err := unpack.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("modules: %s: %w", file, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err == nil && len(b) > maxUnpacked {
		err = fmt.Errorf("more than %d bytes", maxUnpacked)
	}
	if err != nil {
		return nil, fmt.Errorf("modules: %s: %w", file, err)
	}
	return b, nil
}

// Aliases returns the patterns by which devices, and the kernel itself, request the named modules.
// They come from modules.alias, lines of "alias PATTERN NAME". The keys of the result are names in
// the kernel's spelling, with underscores.
func (t *Modules) Aliases(names ...string) (map[string][]string, error) {
	b, err := os.ReadFile(filepath.Join(t.dir, "modules.alias"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("modules: %w", err)
	}
	found := map[string][]string{}
	for _, name := range names {
		found[ModuleName(name)] = nil
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "alias" {
			continue
		}
		if _, wanted := found[fields[2]]; wanted {
			found[fields[2]] = append(found[fields[2]], fields[1])
		}
	}
	return found, nil
}

// IsFile reports whether the kernel has the module as a file.
func (t *Modules) IsFile(name string) bool { return t.file[ModuleName(name)] != "" }
