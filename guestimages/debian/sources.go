package debian

import "strings"

// withSourceLine derives the private form of a one-line style sources file (sources.list(5)): each "deb" line is followed
// by the same line as "deb-src".
func withSourceLine(list string) string {
	var out strings.Builder
	for line := range strings.Lines(list) {
		line = strings.TrimRight(line, "\n")
		rest, isBinary := cutWord(line, "deb")
		_, isSource := cutWord(line, "deb-src")
		if isSource {
			continue
		}
		out.WriteString(line + "\n")
		if isBinary {
			out.WriteString("deb-src" + rest + "\n")
		}
	}
	return out.String()
}

func cutWord(line, word string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(strings.TrimLeft(line, " \t"), word)
	return rest, ok && rest != "" && (rest[0] == ' ' || rest[0] == '\t')
}

// withSourceTypes derives the private form of a deb822 style sources file: every Types field that says "deb" says
// "deb deb-src".
func withSourceTypes(sources string) string {
	var out strings.Builder
	for line := range strings.Lines(sources) {
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(name, "Types") && hasWord(value, "deb") {
			line = "Types: deb deb-src\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

func hasWord(s, word string) bool {
	for _, w := range strings.Fields(s) {
		if w == word {
			return true
		}
	}
	return false
}
