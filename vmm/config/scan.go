package config

import (
	"sort"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// path names a node in the tree of values: `machine.memory`, `disk[1].path`, `a."odd key"`. It is
// unambiguous, so the scanner and the decoder can use it as a common map key.
type path string

func (p path) key(k string) path {
	if k == "" || strings.ContainsFunc(k, func(r rune) bool { return r > 0x7f || !isBare(byte(r)) }) {
		k = strconv.Quote(k)
	}
	if p == "" {
		return path(k)
	}
	return p + "." + path(k)
}

func (p path) index(i int) path { return p + "[" + path(strconv.Itoa(i)) + "]" }

// parent returns the path without its last key or index; the parent of a top-level key is empty.
func (p path) parent() path {
	return p[:max(0, strings.LastIndexAny(string(p), ".["))]
}

func isBare(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// Bounds of nesting, far above what the schema uses. They are checked before the TOML reader runs,
// which recurses once per level.
const (
	maxDepth  = 16 // arrays and inline tables inside each other
	maxDotted = 8  // parts of one key
)

// spot holds the offsets at which a key and its value begin.
type spot struct{ key, value int }

// statement is one top-level expression of a TOML text, a header or a key with its value, up to the
// end of its last line.
type statement struct {
	start, end int
	paths      []path // the keys it sets, as far as it could be read
	header     bool
	broken     bool // a problem in it was reported
}

// scanner finds where the keys and values of a TOML text begin. It checks only the syntax it needs
// to continue. On valid text it is exact. On any other text it does not panic, does not recurse
// beyond maxDepth, and takes linear time.
type scanner struct {
	src        string
	pos        int
	spots      map[path]spot
	statements []statement
	counts     map[path]int // arrays of tables: how many entries so far
	first      map[path]int // keys with a value: the line that first set it
	report     func(off int, format string, args ...any)
	depth      int
	current    *statement
	tooDeep    bool
	line       int // line number of lineAt, from 0
	lineAt     int
}

// scan scans the text. It calls report with an offset for each duplicate key and for nesting that
// is too deep.
func scan(src string, report func(off int, format string, args ...any)) *scanner {
	s := &scanner{src: src, spots: map[path]spot{}, counts: map[path]int{}, first: map[path]int{}, report: report}
	var table path
	for !s.tooDeep {
		s.skip(" \t\r\n")
		if s.pos >= len(s.src) {
			break
		}
		if s.src[s.pos] == '#' {
			s.skipLine()
			continue
		}
		st := statement{start: s.pos}
		s.current = &st
		if s.src[s.pos] == '[' {
			st.header = true
			table = s.header()
		} else {
			s.pair(table)
		}
		s.skipLine()
		st.end = s.pos
		s.statements = append(s.statements, st)
	}
	return s
}

func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *scanner) skip(set string) {
	for s.pos < len(s.src) && strings.IndexByte(set, s.src[s.pos]) >= 0 {
		s.pos++
	}
}

// skipLine moves to the next newline, or to the end.
func (s *scanner) skipLine() {
	if i := strings.IndexByte(s.src[s.pos:], '\n'); i >= 0 {
		s.pos += i
		return
	}
	s.pos = len(s.src)
}

// skipSpace skips the blanks, newlines and comments between the parts of an array or an inline
// table.
func (s *scanner) skipSpace() {
	for {
		s.skip(" \t\r\n")
		if s.peek() != '#' {
			return
		}
		s.skipLine()
	}
}

// lineOf returns the line of off, which must not decrease from call to call.
func (s *scanner) lineOf(off int) int {
	s.line += strings.Count(s.src[s.lineAt:off], "\n")
	s.lineAt = off
	return s.line + 1
}

// header reads [a.b] or [[a.b]] and returns the path of the keys below it.
func (s *scanner) header() path {
	open := s.pos
	s.pos++
	list := s.peek() == '['
	if list {
		s.pos++
	}
	keys, offs := s.dotted()
	var p path
	for i, k := range keys {
		p = p.key(k)
		last := i == len(keys)-1
		if last && list {
			s.see(p, spot{offs[i], open})
			s.counts[p]++
			p = p.index(s.counts[p] - 1)
			s.see(p, spot{offs[i], open})
			break
		}
		s.see(p, spot{offs[i], open})
		if n := s.counts[p]; n > 0 { // a table inside the newest entry of a list
			p = p.index(n - 1)
		}
	}
	if !list && len(keys) > 0 {
		if line, twice := s.first[p]; twice {
			s.report(open, "[%s] is set twice, first on line %d", p, line)
			s.current.broken = true
		} else {
			s.first[p] = s.lineOf(open)
		}
	}
	return p
}

// pair reads key = value.
func (s *scanner) pair(table path) {
	keys, offs := s.dotted()
	p := table
	for i, k := range keys {
		p = p.key(k)
		if i < len(keys)-1 {
			s.see(p, spot{offs[i], offs[i]})
		}
	}
	s.current.paths = append(s.current.paths, p)
	s.skip(" \t")
	if s.peek() != '=' || len(keys) == 0 {
		return
	}
	s.pos++
	s.skip(" \t")
	at := spot{offs[len(offs)-1], s.pos}
	if line, twice := s.first[p]; twice {
		s.report(at.key, "%s is set twice, first on line %d", p, line)
		s.current.broken = true
	} else {
		s.first[p] = s.lineOf(at.key)
		s.see(p, at)
	}
	s.value(p)
}

// see records the first spot of a path.
func (s *scanner) see(p path, at spot) {
	if _, ok := s.spots[p]; !ok {
		s.spots[p] = at
	}
}

// unquoteKey returns the key that quoted TOML text denotes, or the text itself if it is invalid.
func unquoteKey(text string) string {
	var doc struct{ K string }
	if toml.Unmarshal([]byte("K = "+text), &doc) != nil {
		return text
	}
	return doc.K
}

// dotted reads the parts of a key and the offset of each.
func (s *scanner) dotted() (keys []string, offs []int) {
	for {
		s.skip(" \t")
		off := s.pos
		var k string
		if c := s.peek(); c == '"' || c == '\'' {
			s.quoted()
			k = unquoteKey(s.src[off:s.pos])
		} else {
			for isBare(s.peek()) {
				s.pos++
			}
			k = s.src[off:s.pos]
		}
		if s.pos == off {
			return keys, offs
		}
		if len(keys) == maxDotted {
			s.report(off, "a key has more than %d parts", maxDotted)
			s.tooDeep, s.pos = true, len(s.src)
			return keys, offs
		}
		keys, offs = append(keys, k), append(offs, off)
		s.skip(" \t")
		if s.peek() != '.' {
			return keys, offs
		}
		s.pos++
	}
}

// quoted reads a single-line string, up to the end of the line if it is not closed.
func (s *scanner) quoted() {
	q := s.src[s.pos]
	for s.pos++; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; {
		case c == q:
			s.pos++
			return
		case c == '\n':
			return
		case c == '\\' && q == '"' && s.pos+1 < len(s.src) && s.src[s.pos+1] != '\n':
			s.pos++
		}
	}
}

// multiline reads a string in triple quotes; up to two more quotes before the closing ones belong
// to it.
func (s *scanner) multiline(q byte) {
	for s.pos += 3; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; {
		case c == '\\' && q == '"':
			s.pos++
		case c == q && strings.HasPrefix(s.src[s.pos:], strings.Repeat(string(q), 3)):
			s.pos += 3
			for i := 0; i < 2 && s.peek() == q; i++ {
				s.pos++
			}
			return
		}
	}
	s.pos = len(s.src)
}

// value reads the value of p at the current position.
func (s *scanner) value(p path) {
	switch c := s.peek(); c {
	case '"', '\'':
		if strings.HasPrefix(s.src[s.pos:], strings.Repeat(string(c), 3)) {
			s.multiline(c)
			return
		}
		s.quoted()
	case '[', '{':
		if s.depth++; s.depth > maxDepth {
			s.report(s.pos, "values are nested deeper than %d levels", maxDepth)
			s.tooDeep, s.pos = true, len(s.src)
			return
		}
		s.pos++
		if c == '[' {
			s.items(']', func(i int) {
				s.see(p.index(i), spot{s.pos, s.pos})
				s.value(p.index(i))
			})
		} else {
			s.items('}', func(int) { s.pair(p) })
		}
		s.depth--
	default:
		for s.pos < len(s.src) && strings.IndexByte(",]}#\n", s.src[s.pos]) < 0 {
			s.pos++
		}
	}
}

// items reads the items of an array or inline table up to its end, item i with read(i).
func (s *scanner) items(end byte, read func(i int)) {
	for i := 0; ; i++ {
		s.skipSpace()
		if s.pos >= len(s.src) {
			return
		}
		if s.peek() == end {
			s.pos++
			return
		}
		at := s.pos
		read(i)
		s.skipSpace()
		if s.peek() == ',' {
			s.pos++
		}
		if s.pos == at || s.tooDeep { // nothing could be read
			return
		}
	}
}

// statementAt returns the statement that covers off, or nil.
func (s *scanner) statementAt(off int) *statement {
	i := sort.Search(len(s.statements), func(i int) bool { return s.statements[i].end >= off })
	if i == len(s.statements) || s.statements[i].start > off {
		return nil
	}
	return &s.statements[i]
}
