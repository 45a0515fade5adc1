package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// copySources copies every package sources file under etc to the folder to. Only this user can read
// the copies, because the files may contain passwords.
func copySources(etc, to string) error {
	files, err := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	if err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	found := false
	for _, path := range slices.Concat([]string{filepath.Join(etc, "sources.list")}, files) {
		if ext := filepath.Ext(path); ext != ".list" && ext != ".sources" {
			continue
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("debian: %w", err)
		}
		if err := os.WriteFile(filepath.Join(to, filepath.Base(path)), b, 0o600); err != nil {
			return fmt.Errorf("debian: %w", err)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("debian: no package sources in %s", etc)
	}
	return nil
}

// keyring holds the keys of all current Debian releases. apt itself depends on the package that
// contains it.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// suiteSources returns the package sources (sources.list(5)) of a Debian release on a mirror.
func suiteSources(mirror, suite string) string {
	s := fmt.Sprintf("Types: deb deb-src\nURIs: %s\nSuites: %s\nComponents: main\n", mirror, suite)
	if _, err := os.Stat(keyring); err == nil {
		s += "Signed-By: " + keyring + "\n"
	}
	return s
}

// mirror returns the URI of the first Debian mirror in the machine's package sources. apt
// recognizes Debian's own archive by its signed Release file. The answer is kept until Forget.
func (a *Archive) mirror(ctx context.Context) (string, error) {
	return a.remember(ctx, "mirror", func(ctx context.Context) (string, error) {
		out, err := a.run(ctx, "", "apt-get", append(a.options(), "indextargets", "--format", "$(REPO_URI)",
			"Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")...)
		if err != nil {
			return "", err
		}
		mirror, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if mirror == "" {
			return "", errors.New("debian: no Debian mirror in this machine's package sources")
		}
		return mirror, nil
	})
}
