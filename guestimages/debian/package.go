package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Package is one unpacked package. Dir contains its files, laid out as below /.
type Package struct {
	Name, Version, Dir string
}

// Fetch returns the package name in the version that the archive offers. It fetches and unpacks the
// package if the cache does not have it.
func (a *Archive) Fetch(ctx context.Context, name string) (Package, error) {
	version, err := a.Version(ctx, name)
	if err != nil {
		return Package{}, err
	}
	dir, err := a.cache.Make(ctx, entry("packages", name, version), func(ctx context.Context, tmp string) error {
		return a.Unpack(ctx, name, version, tmp)
	})
	if err != nil {
		return Package{}, err
	}
	return Package{Name: name, Version: version, Dir: dir}, nil
}

// Unpack fetches the given version of the package name and unpacks it into the new folder dir. It
// may use other folders next to dir whose names begin with dir's. After an error, the caller must
// remove all of them.
func (a *Archive) Unpack(ctx context.Context, name, version, dir string) error {
	if err := checkName(name); err != nil {
		return err
	}
	a.cache.Logf("fetching %s %s (once)", name, version)
	deb, err := a.download(ctx, dir+".deb.d", name, version)
	if err != nil {
		return err
	}
	if _, err := a.run(ctx, "", "dpkg-deb", "-x", deb, dir); err != nil {
		return fmt.Errorf("package %s %s: %w", name, version, err)
	}
	if err := os.RemoveAll(filepath.Dir(deb)); err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	return nil
}

// entry returns the name of the cache entry for a package version. It replaces the colon of a
// version's epoch ("1:"), which would split a path list.
func entry(kind, name, version string) string {
	return kind + "/" + name + "/" + strings.ReplaceAll(version, ":", "%3a")
}

// Version returns the version of the package name that the archive offers. The answer is kept until
// Forget.
func (a *Archive) Version(ctx context.Context, name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	return a.remember(ctx, "version/"+name, func(ctx context.Context) (string, error) {
		out, err := a.run(ctx, "", "apt-cache", append(a.options(), "policy", name)...)
		if err != nil {
			return "", err
		}
		version, ok := parsePolicy(out)
		if !ok {
			return "", fmt.Errorf("debian: package %s: %w", name, ErrNotOffered)
		}
		return version, nil
	})
}

// ErrNotOffered reports that the machine's package sources do not offer the package.
var ErrNotOffered = errors.New("not offered by this machine's package sources")

// Depends returns the names of the packages that name depends on. The answer is kept until Forget.
func (a *Archive) Depends(ctx context.Context, name string) ([]string, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	list, err := a.remember(ctx, "depends/"+name, func(ctx context.Context) (string, error) {
		out, err := a.run(ctx, "", "apt-cache", append(a.options(), "show", "--no-all-versions", name)...)
		return strings.Join(parseDepends(out), " "), err
	})
	return strings.Fields(list), err
}

// Names returns the names of all packages in the archive that begin with prefix. The answer is kept
// until Forget.
func (a *Archive) Names(ctx context.Context, prefix string) ([]string, error) {
	if err := checkName(prefix); err != nil {
		return nil, err
	}
	list, err := a.remember(ctx, "names/"+prefix, func(ctx context.Context) (string, error) {
		out, err := a.run(ctx, "", "apt-cache", append(a.options(), "pkgnames", prefix)...)
		return string(out), err
	})
	names := strings.Fields(list)
	slices.Sort(names)
	return names, err
}

// Forget drops all kept answers, including those of every Suite. The next query fetches the package
// lists again and returns what the archive offers then. Unpacked packages stay.
func (a *Archive) Forget(ctx context.Context) error {
	unlock, err := a.cache.Lock(ctx, a.state())
	if err != nil {
		return err
	}
	defer unlock()
	// The lists themselves stay until apt replaces them: other processes may be fetching with them.
	return a.cache.Remove(answers)
}

// answers is the cache folder of the kept answers. The entry updated exists in it if the package
// lists were fetched.
const (
	answers = "answers"
	updated = "updated"
)

// remember returns the kept answer to question. If there is none, it calls ask and keeps the
// result; it fetches the package lists first if that has not happened yet.
func (a *Archive) remember(ctx context.Context, question string, ask func(context.Context) (string, error)) (string, error) {
	kept := func(question string) string { return path.Join(answers, a.suite, question) }
	answer, err := a.cache.Read(kept(question))
	if err == nil {
		return answer, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("debian: %w", err)
	}
	unlock, err := a.cache.Lock(ctx, a.state())
	if err != nil {
		return "", err
	}
	defer unlock()
	if !a.cache.Has(kept(updated)) {
		if err := a.update(ctx); err != nil {
			return "", err
		}
		if err := a.cache.Write(kept(updated), ""); err != nil {
			return "", err
		}
	}
	answer, err = ask(ctx)
	if err != nil {
		return "", err
	}
	return answer, a.cache.Write(kept(question), answer)
}

// download fetches one .deb into the new folder dir and returns its path.
func (a *Archive) download(ctx context.Context, dir, name, version string) (string, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("debian: %w", err)
	}
	if err := a.transfer(ctx, dir, name, append(a.options(), "download", name+"="+version)...); err != nil {
		return "", fmt.Errorf("package %s %s: %w\nit may have been replaced in the archive since the package lists were read", name, version, err)
	}
	return one(dir, "*.deb")
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
