package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// copySources copies every package sources file from the folder named by etc into the folder named
// by to. Only this user can read the copies, because the files may contain passwords.
func copySources(etc, to string) error {
	found := false
	for _, pattern := range []string{"sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"} {
		files, err := filepath.Glob(filepath.Join(etc, pattern))
		if err != nil {
			return fmt.Errorf("debian: %w", err)
		}
		for _, path := range files {
			b, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("debian: %w", err)
			}
			if err := os.WriteFile(filepath.Join(to, filepath.Base(path)), b, 0o600); err != nil {
				return fmt.Errorf("debian: %w", err)
			}
			found = true
		}
	}
	if !found {
		return fmt.Errorf("debian: no package sources in %s", etc)
	}
	return nil
}

// keyring holds the keys of all current Debian releases. On Debian, apt depends on the package that
// contains this file.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// suiteSources returns the package sources (sources.list(5)) of a Debian release on a mirror.
func suiteSources(mirror, suite string) string {
	s := fmt.Sprintf("Types: deb deb-src\nURIs: %s\nSuites: %s\nComponents: main\n", mirror, suite)
	if _, err := os.Stat(keyring); err == nil {
		s += "Signed-By: " + keyring + "\n"
	}
	return s
}

// mirror returns the URI of the first Debian mirror in this computer's package sources. It
// recognizes Debian's own archive by fields that apt reads from the archive's signed Release file.
// The URI is remembered until Forget is called.
func (a *Archive) mirror(ctx context.Context) (string, error) {
	return a.ask(ctx, "mirror-of", "debian", func(out string) (string, error) {
		mirror, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
		if mirror == "" {
			return "", errors.New("debian: no Debian mirror in this machine's package sources")
		}
		return mirror, nil
	}, "apt-get", "indextargets", "--format", "$(REPO_URI)",
		"Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
}
