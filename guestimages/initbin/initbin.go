// Package initbin provides the static program that runs as process 1 in the emulated host and in
// guests: minivmm's own guestimages/init. "make build" embeds the program in minivmm (build tag
// embedinit). Such a minivmm needs neither the go command nor the source tree. Without the tag, the
// go command builds the program from the source tree, and the cache stores it under a hash of its
// sources. Once the program is in the cache, the go command is not needed, so Path also works
// inside the emulated host.
package initbin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"minivmm/guestimages/cache"
)

// Package is the import path of the program.
const Package = "minivmm/guestimages/init"

// sources are the folders from which the program is built, relative to the folder guestimages.
var sources = []string{"init", "agent", "../kvm", "../internal/ioctl"}

// Path returns the program's path in the cache. If the cache lacks the program, Path adds or builds
// it. The path changes with the program's content.
func Path(ctx context.Context, c *cache.Cache) (string, error) {
	if embedded != "" {
		return c.Make(ctx, "init/"+embeddedSum, func(_ context.Context, tmp string) error {
			return os.WriteFile(tmp, []byte(embedded), 0o755)
		})
	}
	dir, err := folder(ctx)
	if err != nil {
		return "", err
	}
	sum, err := hash(dir)
	if err != nil {
		return "", fmt.Errorf("initbin: %w", err)
	}
	return c.Make(ctx, "init/"+sum, func(ctx context.Context, tmp string) error {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", tmp, Package)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("initbin: go build %s: %w\n%s", Package, err, strings.TrimSpace(string(out)))
		}
		return nil
	})
}

// folder returns the folder guestimages of the source tree. It uses the path of this file at
// compile time, or else asks the go command, which searches from the working directory.
func folder(ctx context.Context) (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		dir := filepath.Dir(filepath.Dir(file))
		if _, err := os.Stat(filepath.Join(dir, "init")); err == nil {
			return dir, nil
		}
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", Package).Output()
	if err != nil {
		return "", fmt.Errorf("initbin: source of %s not found: run this inside minivmm's source tree: %w", Package, err)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
}

// hash returns a hash of the sources, the module's requirements and the compiler's version.
func hash(dir string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version())
	files := []string{filepath.Join(dir, "..", "go.mod"), filepath.Join(dir, "..", "go.sum")}
	for _, name := range sources {
		found, err := filepath.Glob(filepath.Join(dir, name, "*.go"))
		if err != nil || len(found) == 0 {
			return "", errors.Join(err, errors.New("no Go files in "+filepath.Join(dir, name)))
		}
		files = append(files, found...)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", filepath.Base(file), len(b))
		h.Write(b)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:16]), nil
}
