package debian

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Fetch returns a folder with the files of the named package, in the version that the archive
// offers. Paths in the folder are those below / on a system where the package is installed. Fetch
// downloads and unpacks the package if the cache does not contain it.
func (a *Archive) Fetch(ctx context.Context, name string) (dir string, err error) {
	version, err := a.Version(ctx, name)
	if err != nil {
		return "", err
	}
	// The colon of a version's epoch ("1:") would split a path list.
	entry := "packages/" + name + "/" + strings.ReplaceAll(version, ":", "%3a")
	return a.cache.Make(ctx, entry, func(ctx context.Context, tmp string) error {
		return a.Unpack(ctx, name, version, tmp)
	})
}

// Unpack fetches the given version of the named package and unpacks it into dir, a new folder. It
// may create other folders next to dir, whose names start with the name of dir. After an error, the
// caller must remove dir and these other folders.
func (a *Archive) Unpack(ctx context.Context, name, version, dir string) error {
	if err := checkName(name); err != nil {
		return err
	}
	a.cache.Logf("fetching %s %s (once)", name, version)
	fetched := dir + ".deb.d"
	if err := os.Mkdir(fetched, 0o755); err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	if err := a.transfer(ctx, fetched, name, "download", name+"="+version); err != nil {
		return fmt.Errorf("package %s %s: %w\nit may have been replaced in the archive since the package lists were read", name, version, err)
	}
	deb, err := one(fetched, "*.deb")
	if err != nil {
		return err
	}
	if _, err := run(ctx, "", "dpkg-deb", "-x", deb, dir); err != nil {
		return fmt.Errorf("package %s %s: %w", name, version, err)
	}
	if err := os.RemoveAll(fetched); err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	return nil
}

// Source fetches the named source package, unpacks it into dir, a new folder, and applies the
// package's patches. Like Unpack, it may create other folders next to dir.
func (a *Archive) Source(ctx context.Context, name, dir string) error {
	if err := checkName(name); err != nil {
		return err
	}
	fetched := dir + ".fetched"
	if err := os.MkdirAll(fetched, 0o755); err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	if _, err := run(ctx, fetched, "apt-get", a.private("source", "--download-only", name)...); err != nil {
		return err
	}
	dsc, err := one(fetched, "*.dsc")
	if err != nil {
		return err
	}
	// apt has already checked the files against the signed lists.
	if _, err := run(ctx, "", "dpkg-source", "-x", "--no-check", dsc, dir); err != nil {
		return err
	}
	if err := os.RemoveAll(fetched); err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	return nil
}

// one returns the only file in dir that matches pattern.
func one(dir, pattern string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return "", fmt.Errorf("debian: %w", err)
	}
	if len(files) != 1 {
		return "", fmt.Errorf("debian: %d files match %s in %s, want one", len(files), pattern, dir)
	}
	return files[0], nil
}
