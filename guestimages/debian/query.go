package debian

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// ErrNotOffered reports that the machine's package sources do not offer the package.
var ErrNotOffered = errors.New("not offered by this machine's package sources")

// Version returns the package version that the archive offers. The answer is kept until Forget.
func (a *Archive) Version(ctx context.Context, name string) (string, error) {
	return a.ask(ctx, "version", name, func(out string) (string, error) {
		version, ok := parsePolicy(out)
		if !ok {
			return "", fmt.Errorf("debian: package %s: %w", name, ErrNotOffered)
		}
		return version, nil
	}, "apt-cache", "policy", name)
}

// SourceVersion is like Version, for the source package name.
func (a *Archive) SourceVersion(ctx context.Context, name string) (string, error) {
	return a.ask(ctx, "source", name, func(out string) (string, error) {
		version, ok := parseSourceURIs(out, name)
		if !ok {
			return "", fmt.Errorf("debian: source package %s: %w", name, ErrNotOffered)
		}
		return version, nil
	}, "apt-get", "source", "--print-uris", "--download-only", name)
}

// Depends returns the names of the packages that name depends on. The answer is kept until Forget.
func (a *Archive) Depends(ctx context.Context, name string) ([]string, error) {
	list, err := a.ask(ctx, "depends", name, func(out string) (string, error) {
		return strings.Join(parseDepends(out), " "), nil
	}, "apt-cache", "show", "--no-all-versions", name)
	return strings.Fields(list), err
}

// Names returns the names of all packages that begin with prefix. The answer is kept until Forget.
func (a *Archive) Names(ctx context.Context, prefix string) ([]string, error) {
	all := func(out string) (string, error) { return out, nil }
	list, err := a.ask(ctx, "names", prefix, all, "apt-cache", "pkgnames", prefix)
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

const (
	answers = "answers" // the cache folder of the kept answers
	updated = "updated" // an entry of that folder; it exists once the package lists were fetched
)

// ask returns the kept answer of this kind for the package name. If there is none, it runs an apt
// tool, parses its output and keeps the result. Before the first run it fetches the package lists.
func (a *Archive) ask(ctx context.Context, kind, name string, parse func(out string) (string, error), tool string,
	args ...string) (string, error) {
	if err := checkName(name); err != nil {
		return "", err
	}
	kept := path.Join(answers, a.suite, kind, name)
	answer, err := a.cache.Read(kept)
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
	if fetched := path.Join(answers, a.suite, updated); !a.cache.Has(fetched) {
		if err := a.update(ctx); err != nil {
			return "", err
		}
		if err := a.cache.Write(fetched, ""); err != nil {
			return "", err
		}
	}
	out, err := run(ctx, "", tool, a.private(args...)...)
	if err != nil {
		return "", err
	}
	if answer, err = parse(out); err != nil {
		return "", err
	}
	return answer, a.cache.Write(kept, answer)
}

// checkName accepts package names (Debian policy section 5.6.7), which are never options or paths.
func checkName(name string) error {
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`).MatchString(name) {
		return fmt.Errorf("debian: %q is not a package name", name)
	}
	return nil
}

// parsePolicy returns the version of the candidate in the output of "apt-cache policy NAME".
func parsePolicy(out string) (version string, ok bool) {
	_, version, _ = strings.Cut(out, "Candidate:")
	version, _, _ = strings.Cut(version, "\n")
	version = strings.TrimSpace(version)
	return version, version != "" && version != "(none)"
}

// parseDepends returns the packages in the Depends field of "apt-cache show" output, without
// versions. It returns the first of several alternatives ("a | b").
func parseDepends(out string) []string {
	var names []string
	_, field, _ := strings.Cut("\n"+out, "\nDepends:")
	field, _, _ = strings.Cut(field, "\n")
	for dep := range strings.SplitSeq(field, ",") {
		if words := strings.Fields(dep); len(words) > 0 {
			names = append(names, words[0])
		}
	}
	return names
}

// parseSourceURIs returns the version from the output of "apt-get source --print-uris NAME", whose
// lines are 'URI' FILE SIZE HASH. It takes the version from the name of the .dsc file.
func parseSourceURIs(out, name string) (version string, ok bool) {
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		rest, isName := strings.CutPrefix(words[1], name+"_")
		version, isDsc := strings.CutSuffix(rest, ".dsc")
		if isName && isDsc && version != "" {
			return version, true
		}
	}
	return "", false
}
