package debian

import (
	"context"
	"fmt"
	"os"
)

// SourceVersion returns the version of the source package that the archive offers. The answer is
// kept until Forget.
func (a *Archive) SourceVersion(ctx context.Context, name string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	return a.remember(ctx, "source/"+name, func(ctx context.Context) (string, error) {
		out, err := a.run(ctx, "", "apt-get", append(a.options(), "source", "--print-uris", "--download-only", name)...)
		if err != nil {
			return "", err
		}
		version, ok := parseSourceURIs(out, name)
		if !ok {
			return "", fmt.Errorf("debian: source package %s: %w", name, ErrNotOffered)
		}
		return version, nil
	})
}

// Source fetches the source package name and unpacks it, with Debian's patches applied, into the
// new folder dir.
func (a *Archive) Source(ctx context.Context, name, dir string) error {
	if err := checkName(name); err != nil {
		return err
	}
	fetched := dir + ".fetched"
	if err := os.MkdirAll(fetched, 0o755); err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	if _, err := a.run(ctx, fetched, "apt-get", append(a.options(), "source", "--download-only", name)...); err != nil {
		return err
	}
	dsc, err := one(fetched, "*.dsc")
	if err != nil {
		return err
	}
	// apt has already checked the files against the signed lists.
	if _, err := a.run(ctx, "", "dpkg-source", "--no-check", "-x", dsc, dir); err != nil {
		return err
	}
	if err := os.RemoveAll(fetched); err != nil {
		return fmt.Errorf("debian: %w", err)
	}
	return nil
}
