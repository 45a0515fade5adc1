package modules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Aliases returns the patterns under which devices, and the kernel itself, ask for the named modules: modules.alias, lines of
// "alias PATTERN NAME". The result is by the name in the kernel's spelling, with underscores.
func (t *Tree) Aliases(names ...string) (map[string][]string, error) {
	b, err := os.ReadFile(filepath.Join(t.dir, "modules.alias"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	return aliasesIn(string(b), names), nil
}

func aliasesIn(text string, names []string) map[string][]string {
	found := map[string][]string{}
	for _, name := range names {
		found[nameOf(name)] = nil
	}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "alias" {
			continue
		}
		if _, wanted := found[fields[2]]; wanted {
			found[fields[2]] = append(found[fields[2]], fields[1])
		}
	}
	return found
}

// IsFile says whether the module is a file, and not built in or unknown.
func (t *Tree) IsFile(name string) bool { return t.file[nameOf(name)] != "" }
