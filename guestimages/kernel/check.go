package kernel

import (
	"bytes"
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// Check looks for problems that would prevent modules from loading: files in modules.dep that do
// not exist, modules built for a kernel other than release, and modules whose dependencies are
// neither files nor built in. If sample is above 0, Check reads only this number of modules, spread
// over the tree; if sample is 0, it reads all modules. An empty release allows any release. Only
// errors from the operating system contain the path of the tree's folder.
func (t *Modules) Check(ctx context.Context, release string, sample int) error {
	names := slices.Sorted(maps.Keys(t.file))
	for _, name := range names {
		if err := t.checkFiles(name); err != nil {
			return err
		}
	}
	if sample > 0 && sample < len(names) {
		for i := range sample {
			names[i] = names[i*len(names)/sample]
		}
		names = names[:sample]
	}
	errs := make([]error, len(names)) // Check returns the error of the first module in the sorted list, whichever goroutine finds an error first
	running := make(chan struct{}, runtime.GOMAXPROCS(0))
	var all sync.WaitGroup
	for i, name := range names {
		running <- struct{}{}
		all.Go(func() {
			defer func() { <-running }()
			if errs[i] = ctx.Err(); errs[i] == nil {
				errs[i] = t.checkModule(name, release)
			}
		})
	}
	all.Wait()
	return cmp.Or(ctx.Err(), cmp.Or(errs...))
}

// checkFiles checks that the file of the named module exists, and that the module's dependencies in
// modules.dep are files or built in.
func (t *Modules) checkFiles(name string) error {
	if _, err := os.Stat(filepath.Join(t.dir, filepath.FromSlash(t.file[name]))); errors.Is(err, fs.ErrNotExist) {
		for by, needs := range t.needs {
			if slices.Contains(needs, name) {
				return fmt.Errorf("modules: %s requires %s, whose file %s does not exist", by, name, t.file[name])
			}
		}
		return fmt.Errorf("modules: modules.dep names %s, which does not exist: %w", t.file[name], fs.ErrNotExist)
	} else if err != nil {
		return fmt.Errorf("modules: %w", err)
	}
	return t.checkNeeds(name, t.needs[name])
}

func (t *Modules) checkNeeds(name string, needs []string) error {
	for _, need := range needs {
		if !t.Has(need) {
			return fmt.Errorf("modules: %s requires %s, which is neither a file nor built in", name, need)
		}
	}
	return nil
}

// checkModule reads one module and checks its release and dependencies.
func (t *Modules) checkModule(name, release string) error {
	b, err := t.Read(t.file[name])
	if err != nil {
		return err
	}
	info, err := readModinfo(b)
	if err != nil {
		return fmt.Errorf("modules: %s: %w", t.file[name], err)
	}
	if release != "" && info.Release != "" && info.Release != release {
		return fmt.Errorf("modules: %s was built for kernel %s, not %s", t.file[name], info.Release, release)
	}
	return t.checkNeeds(name, info.Depends)
}

// modinfo is a module's section .modinfo (MODULE_INFO in the kernel's include/linux/module.h).
type modinfo struct {
	Release string   // the first word of vermagic: the kernel that the module was built for
	Depends []string // the modules that this module depends on
}

// maxInfo limits the size of .modinfo, in bytes. The longest .modinfo in Debian is a tenth of this
// limit; it belongs to a graphics driver that names its firmware files.
const maxInfo = 1 << 20

// readModinfo reads the section .modinfo of a module from b, the module's unpacked bytes. It
// rejects a module that is not for x86-64.
func readModinfo(b []byte) (modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return modinfo{}, fmt.Errorf("not a module: %w", err)
	}
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_REL {
		return modinfo{}, fmt.Errorf("an ELF file of type %v for %v, want a module (ET_REL) for EM_X86_64", f.Type, f.Machine)
	}
	section := f.Section(".modinfo")
	if section == nil {
		return modinfo{}, errors.New("not a module: it has no section .modinfo")
	}
	if section.Size > maxInfo { // the unpacked size if the section is compressed
		return modinfo{}, fmt.Errorf(".modinfo has %d bytes, more than %d", section.Size, maxInfo)
	}
	data, err := section.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf(".modinfo: %w", err)
	}
	var info modinfo
	for field := range strings.SplitSeq(string(data), "\x00") {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "vermagic":
			info.Release, _, _ = strings.Cut(value, " ")
		case "depends":
			info.Depends = strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
		}
	}
	return info, nil
}
