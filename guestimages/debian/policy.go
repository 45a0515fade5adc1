package debian

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// parsePolicy returns the version of the candidate in the output of "apt-cache policy NAME".
func parsePolicy(out []byte) (version string, ok bool) {
	sc := bufio.NewScanner(bytes.NewReader(out))
	for sc.Scan() {
		v, found := strings.CutPrefix(strings.TrimSpace(sc.Text()), "Candidate:")
		if !found {
			continue
		}
		v = strings.TrimSpace(v)
		return v, v != "" && v != "(none)"
	}
	return "", false
}

// parseDepends returns the packages in the Depends field of "apt-cache show" output, without
// versions. It returns the first of several alternatives ("a | b").
func parseDepends(out []byte) []string {
	var names []string
	sc := bufio.NewScanner(bytes.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		field, found := strings.CutPrefix(sc.Text(), "Depends:")
		if !found {
			continue
		}
		for _, dep := range strings.Split(field, ",") {
			if words := strings.Fields(dep); len(words) > 0 {
				names = append(names, words[0])
			}
		}
		break
	}
	return names
}

// packageName matches the names that Debian policy section 5.6.7 allows. No tool can mistake such a
// name for an option or a path.
func packageName() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`) }

func checkName(name string) error {
	if !packageName().MatchString(name) {
		return fmt.Errorf("debian: %q is not a package name", name)
	}
	return nil
}

// parseSourceURIs returns the version from the output of "apt-get source --print-uris NAME", whose
// lines are 'URI' FILE SIZE HASH. It takes the version from the name of the .dsc file.
func parseSourceURIs(out []byte, name string) (version string, ok bool) {
	for line := range strings.Lines(string(out)) {
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
