// Package terminal makes untrusted text safe to print. Names and messages that come from
// registries, images, guests and file systems may contain escape sequences. These can make a
// terminal display arbitrary text, or enter text as if the user had typed it.
package terminal

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Clean returns s with an escape in place of each non-printable character except line breaks and
// tabs. The escapes are those of JSON, such as \u001b, so JSON text keeps its meaning. Each byte
// that is not UTF-8 becomes an escape such as \xff.
func Clean(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case r == '\n', r == '\t', unicode.IsGraphic(r):
			b.WriteString(s[:n])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// Writer writes cleaned text to W. A character must not be split across two calls of Write.
type Writer struct{ W io.Writer }

func (w Writer) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.W, Clean(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
