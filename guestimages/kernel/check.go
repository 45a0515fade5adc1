package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Check looks for problems that would prevent modules from loading: files that modules.dep names
// and that do not exist, modules built for a kernel other than release, and modules whose
// dependencies are neither files nor built in. It reads a sample of the modules, spread over the
// tree; sample 0 reads all of them. An empty release allows any. Errors do not contain the path of
// the tree's folder.
func (t *Modules) Check(ctx context.Context, release string, sample int) error {
	names := make([]string, 0, len(t.file))
	for name := range t.file {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := t.checkFiles(name); err != nil {
			return err
		}
	}
	if sample > 0 && sample < len(names) {
		some := make([]string, sample)
		for i := range some {
			some[i] = names[i*len(names)/sample]
		}
		names = some
	}
	var next atomic.Int64
	errs := make([]error, len(names)) // the first in order is reported, whichever goroutine finds it
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(names)) {
		all.Go(func() {
			for i := int(next.Add(1) - 1); i < len(names) && ctx.Err() == nil; i = int(next.Add(1) - 1) {
				errs[i] = t.checkModule(names[i], release)
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkFiles checks that the file of name exists, and that its dependencies in modules.dep are
// known.
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
