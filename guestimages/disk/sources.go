package disk

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// field is a field of a stanza in deb822 style (sources.list(5)). The name keeps its upper and
// lower case.
type field struct{ name, value string }

// source is one stanza of package sources.
type source []field

func (s source) get(name string) string {
	for _, f := range s {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

// with returns a copy of the stanza in which the field with the given name has the given value.
func (s source) with(name, value string) source {
	s = slices.Clone(s)
	for i, f := range s {
		if strings.EqualFold(f.name, name) {
			s[i].value = value
			return s
		}
	}
	return append(s, field{name, value})
}

// withURIs returns a copy of the stanza with each URI replaced by the result of change.
func (s source) withURIs(change func(uri string) (string, error)) (source, error) {
	uris := strings.Fields(s.get("URIs"))
	for i, uri := range uris {
		var err error
		if uris[i], err = change(uri); err != nil {
			return nil, err
		}
	}
	return s.with("URIs", strings.Join(uris, " ")), nil
}

func formatSources(list []source) string {
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		for _, f := range s {
			fmt.Fprintf(&b, "%s: %s\n", f.name, f.value)
		}
	}
	return b.String()
}

// readSources reads the package sources in the folder etc (normally /etc/apt), in one-line and
// deb822 style.
func readSources(etc string) ([]source, error) {
	files, err := filepath.Glob(filepath.Join(etc, "sources.list.d", "*"))
	if err != nil {
		return nil, err
	}
	var list []source
	for _, path := range append([]string{filepath.Join(etc, "sources.list")}, files...) {
		parse := map[string]func(string) []source{".list": parseOneLine, ".sources": parseStanzas}[filepath.Ext(path)]
		if parse == nil {
			continue
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, parse(string(b))...)
	}
	return list, nil
}

// optionNames maps options of the one-line style to deb822 fields where the names differ.
var optionNames = map[string]string{"arch": "Architectures", "lang": "Languages", "target": "Targets"}

// parseOneLine parses lines like "deb [ option=value ] uri suite component..." and skips other
// lines.
func parseOneLine(text string) (list []source) {
	form := regexp.MustCompile(`^\s*deb\s+(?:\[([^]]*)\]\s*)?([^[\s]\S*)\s+(\S+)(.*)`)
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		m := form.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		s := source{{"Types", "deb"}, {"URIs", m[2]}, {"Suites", m[3]}, {"Components", strings.Join(strings.Fields(m[4]), " ")}}
		for option := range strings.FieldsSeq(m[1]) {
			name, value, _ := strings.Cut(option, "=")
			s = append(s, field{cmp.Or(optionNames[strings.ToLower(name)], name), strings.ReplaceAll(value, ",", " ")})
		}
		list = append(list, s)
	}
	return list
}

// parseStanzas parses sources in deb822 style. It skips disabled stanzas and stanzas without the
// type "deb".
func parseStanzas(text string) (list []source) {
	var s source
	end := func() {
		if slices.Contains(strings.Fields(s.get("Types")), "deb") && !slices.Contains([]string{"no", "false", "0", "off"}, strings.ToLower(s.get("Enabled"))) {
			list = append(list, s.with("Types", "deb"))
		}
		s = nil
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.TrimSpace(line) == "":
			end()
		case line[0] == ' ' || line[0] == '\t':
			if len(s) > 0 {
				s[len(s)-1].value += "\n" + line
			}
		case ok:
			s = append(s, field{name, strings.TrimSpace(value)})
		}
	}
	end()
	return list
}

// aliases are the names, in addition to the codename, by which sources may refer to a release.
var aliases = []string{"stable", "oldstable", "testing", "unstable", "sid"}

// forSuite selects the sources of the host's own release, including updates and security updates,
// and returns copies in which the given suite replaces the host's. If the suite is "", the host's
// suite stays. A source is selected if it names the host's release, by codename or by one of the
// aliases, and has the component main. Other sources are not Debian's own. The second result is the
// suite in the copies.
func forSuite(list []source, codename, suite string) ([]source, string, error) {
	for _, name := range append([]string{codename}, aliases...) {
		as := cmp.Or(suite, name)
		var out []source
		for _, s := range list {
			var suites []string
			for word := range strings.FieldsSeq(s.get("Suites")) {
				rest, ok := strings.CutPrefix(word, name)
				rolling := rest != "" && (as == "sid" || as == "unstable") // these suites have no updates of their own
				if ok && !rolling && slices.Contains([]string{"", "-updates", "-security"}, rest) {
					suites = append(suites, as+rest)
				}
			}
			if name == "" || len(suites) == 0 || !slices.Contains(strings.Fields(s.get("Components")), "main") {
				continue
			}
			s, err := s.with("Suites", strings.Join(suites, " ")).withURIs(plainURI)
			if err != nil {
				return nil, "", err
			}
			out = append(out, s)
		}
		if len(out) > 0 {
			return out, as, nil
		}
	}
	return nil, "", fmt.Errorf("disk: this host's package sources contain no Debian release (%s) with the component main: %w", codename, errors.ErrUnsupported)
}

// plainURI replaces a mirror+file: URI, which cloud images use, with the first mirror in the named
// file, because the guest does not have the mirror file.
func plainURI(uri string) (string, error) {
	path, ok := strings.CutPrefix(uri, "mirror+file:")
	if !ok {
		return uri, nil
	}
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "", err
	}
	mirrors := strings.Fields(string(b))
	if len(mirrors) == 0 {
		return "", fmt.Errorf("disk: %s: mirror list is empty", path)
	}
	return mirrors[0], nil
}

// withoutSecrets returns the sources without user names and passwords in URIs.
func withoutSecrets(list []source) []source {
	list = slices.Clone(list)
	for i, s := range list {
		list[i], _ = s.withURIs(func(uri string) (string, error) {
			if u, err := url.Parse(uri); err == nil && u.User != nil {
				u.User = nil
				return u.String(), nil
			}
			return uri, nil
		})
	}
	return list
}

// keyFiles returns the key files that the sources refer to (Signed-By).
func keyFiles(list []source) (files []string) {
	for _, s := range list {
		for word := range strings.FieldsSeq(s.get("Signed-By")) {
			if filepath.IsAbs(word) && !slices.Contains(files, word) {
				files = append(files, word)
			}
		}
	}
	return files
}
