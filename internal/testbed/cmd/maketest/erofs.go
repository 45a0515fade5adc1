package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
)

// erofsRelease is the oldest Debian release whose mkfs.erofs preserves everything in a tar archive.
const erofsRelease = "trixie"

// erofsUtils returns a folder with mkfs.erofs and fsck.erofs of a Debian release that may be newer
// than the machine's. The packages are unpacked in the cache and not installed: each program is a
// script that runs the real one with the release's own dynamic linker and libraries.
func erofsUtils(ctx context.Context, c *cache.Cache, machine *debian.Archive) (string, error) {
	dirs := map[string]string{}
	if err := fetch(ctx, machine.Suite(erofsRelease), "erofs-utils", dirs); err != nil {
		return "", fmt.Errorf("erofs-utils of Debian %s: %w", erofsRelease, err)
	}
	const libraries = "usr/lib/x86_64-linux-gnu" // in each package; in libc6 with the dynamic linker
	var paths []string
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		paths = append(paths, filepath.Join(dirs[name], libraries))
	}
	run := fmt.Appendf(nil, "#!/bin/sh\nexec '%s' --library-path '%s' '%s'/\"${0##*/}\" \"$@\"\n",
		filepath.Join(dirs["libc6"], libraries, "ld-linux-x86-64.so.2"),
		strings.Join(paths, ":"), filepath.Join(dirs["erofs-utils"], "usr/bin"))
	return c.Make(ctx, fmt.Sprintf("erofs-utils/%x", sha256.Sum256(run)), func(_ context.Context, tmp string) error {
		return errors.Join(os.Mkdir(tmp, 0o755), os.WriteFile(filepath.Join(tmp, "mkfs.erofs"), run, 0o755),
			os.WriteFile(filepath.Join(tmp, "fsck.erofs"), run, 0o755))
	})
}

// fetch fetches a package and all its dependencies, and adds their folders to dirs by name.
func fetch(ctx context.Context, a *debian.Archive, name string, dirs map[string]string) error {
	if dirs[name] != "" {
		return nil
	}
	dir, err := a.Fetch(ctx, name)
	if err != nil {
		return err
	}
	dirs[name] = dir
	depends, err := a.Depends(ctx, name)
	for _, d := range depends {
		err = errors.Join(err, fetch(ctx, a, d, dirs))
	}
	return err
}
