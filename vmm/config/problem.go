package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing wrong with a configuration, and where it stands.
type Problem struct {
	File      string // as the caller named it; empty when the value came from a flag
	Line, Col int    // from 1; the column counts bytes; 0 without a File
	Flag      string // the flag that gave the value, like "--memory"; empty when it came from a file
	Text      string // one line
}

// String is "file:line:col: error: text", or "--flag: error: text", as compilers print it.
func (p Problem) String() string {
	if p.Flag != "" {
		return p.Flag + ": error: " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: error: %s", p.File, p.Line, p.Col, p.Text)
}

// Error is every problem of a configuration: those of the file by position, then those of the flags. It is never empty.
type Error struct{ Problems []Problem }

// maxShown bounds what Error prints; a file of the largest size can hold a hundred thousand problems.
const maxShown = 50

// Error is one problem per line.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i == maxShown {
			fmt.Fprintf(&b, "\nand %d more", len(e.Problems)-i)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(p.String())
	}
	return b.String()
}

// FlagsOnly reports whether no problem is the file's.
func (e *Error) FlagsOnly() bool {
	return !slices.ContainsFunc(e.Problems, func(p Problem) bool { return p.Flag == "" })
}

// place is where a key or a value was given: at an offset of the file, or by a flag.
type place struct {
	off  int
	flag string
	nth  int // of the flag on the command line
}

// report collects problems by place and turns them into an Error.
type report struct {
	file  string
	data  []byte
	found []located
}

type located struct {
	place
	text string
}

func (r *report) add(at place, format string, args ...any) {
	r.found = append(r.found, located{at, fmt.Sprintf(format, args...)})
}

// err is nil when nothing was reported.
func (r *report) err() error {
	if len(r.found) == 0 {
		return nil
	}
	slices.SortStableFunc(r.found, func(a, b located) int {
		return cmp.Or(cmp.Compare(min(len(a.flag), 1), min(len(b.flag), 1)), cmp.Compare(a.nth, b.nth), cmp.Compare(a.off, b.off), cmp.Compare(a.text, b.text))
	})
	e := &Error{}
	line, start, at := 1, 0, 0 // of the offset last seen; offsets rise, so the file is walked once
	for _, f := range r.found {
		p := Problem{Flag: f.flag, Text: f.text}
		if f.flag == "" {
			for off := min(f.off, len(r.data)); at < off; at++ {
				if r.data[at] == '\n' {
					line, start = line+1, at+1
				}
			}
			p.File, p.Line, p.Col = r.file, line, at-start+1
		}
		e.Problems = append(e.Problems, p)
	}
	return e
}

// quote shows text from a file or a flag: escaped, so that it cannot steer a terminal, and not without end.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
