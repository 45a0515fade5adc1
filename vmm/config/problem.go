package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is one error in a configuration, with its position.
type Problem struct {
	File      string // as the caller named it; empty if the value came from a flag
	Line, Col int    // from 1, the column in bytes; 0 if File is empty
	Flag      string // the flag that set the value, like "--memory"; empty if the value came from a file
	Text      string // one line
}

// String returns "file:line:col: error: text", or "--flag: error: text", as compilers print errors.
func (p Problem) String() string {
	if p.Flag != "" {
		return p.Flag + ": error: " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: error: %s", p.File, p.Line, p.Col, p.Text)
}

// Error holds all problems of a configuration: first those in the file, in the order of their
// positions, then those in the flags. Problems is never empty.
type Error struct{ Problems []Problem }

// maxShown bounds the problems that Error prints; a file of maximum size can have a hundred
// thousand problems.
const maxShown = 50

// Error returns one problem per line.
func (e *Error) Error() string {
	var lines []string
	for _, p := range e.Problems[:min(len(e.Problems), maxShown)] {
		lines = append(lines, p.String())
	}
	if more := len(e.Problems) - maxShown; more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "\n")
}

// FlagsOnly reports whether all problems are in flags.
func (e *Error) FlagsOnly() bool {
	return !slices.ContainsFunc(e.Problems, func(p Problem) bool { return p.Flag == "" })
}

// place is the position of a key or value: an offset in the file, or a flag.
type place struct {
	off  int
	flag string
	nth  int // position of the flag on the command line, from 1
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

// err returns the reported problems as an *Error, or nil if there are none.
func (r *report) err() error {
	if len(r.found) == 0 {
		return nil
	}
	slices.SortStableFunc(r.found, func(a, b located) int {
		return cmp.Or(cmp.Compare(min(len(a.flag), 1), min(len(b.flag), 1)), cmp.Compare(a.nth, b.nth), cmp.Compare(a.off, b.off), cmp.Compare(a.text, b.text))
	})
	e := &Error{}
	line, start, at := 1, 0, 0 // line and its start belong to offset at; offsets ascend, so the file is scanned once
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

// quote returns untrusted text for a message: escaped, so that it cannot control a terminal, and at
// most 200 bytes.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return strconv.Quote(s[:most]) + "..."
	}
	return strconv.Quote(s)
}
