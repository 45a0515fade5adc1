package config

import (
	"encoding"
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// word is a value's text from a flag. The schema determines the type of the value.
type word string

// decoder fills a Config from a tree of values as the TOML reader returns it: map[string]any,
// []map[string]any, []any and scalars. A rejected value leaves the default in place, so that later
// checks do not report it again.
type decoder struct {
	*report
	spots    map[path]spot
	flags    map[path]place // positions of the values from flags; they override spots
	given    map[path]bool  // known keys that were set, even to an invalid value
	broken   map[path]bool  // given keys whose value was reported or could not be read
	blind    bool           // some text could not be read, so it is unknown which keys it set
	baseDir  string         // base of relative paths in the file
	flagsDir string         // base of relative paths in flags
	stat     func(string) (fs.FileInfo, error)
	raw      func(string) error
}

// at returns the position of the value at path p. If p was not given, at returns the position of
// the innermost table or list around p that was given.
func (d *decoder) at(p path) place {
	for ; p != ""; p = p.parent() {
		if f, ok := d.flags[p]; ok {
			return f
		}
		if s, ok := d.spots[p]; ok {
			return place{off: s.value}
		}
	}
	return d.flags[""]
}

// keyAt returns the position of the key at path p.
func (d *decoder) keyAt(p path) place {
	if _, ok := d.flags[p]; !ok {
		if s, ok := d.spots[p]; ok {
			return place{off: s.key}
		}
	}
	return d.at(p)
}

// reject reports the value at path p as a problem.
func (d *decoder) reject(p path, format string, args ...any) {
	d.broken[p] = true
	d.add(d.at(p), format, args...)
}

// unread reports whether p or a table or list around p is broken, or whether p may have been set in
// text that could not be read.
func (d *decoder) unread(p path) bool {
	for q := p; q != ""; q = q.parent() {
		if d.broken[q] {
			return true
		}
	}
	return d.blind
}

// missing reports whether p was not given.
func (d *decoder) missing(p path) bool { return !d.given[p] && !d.unread(p) }

// table fills the struct rv from the TOML table m at path p.
func (d *decoder) table(m map[string]any, rv reflect.Value, p path) {
	keys := keysOf(rv.Type())
	for k, v := range m {
		q := p.key(k)
		i := slices.Index(keys, k)
		if i < 0 {
			d.add(d.keyAt(q), "unknown key %s%s%s", quote(k), in(p), hint(k, p, keys))
			continue
		}
		d.given[q] = true
		d.value(v, rv.Field(i), q)
	}
}

// value fills rv from the value v at path p.
func (d *decoder) value(v any, rv reflect.Value, p path) {
	if w, ok := v.(word); ok {
		d.word(string(w), rv, p)
		return
	}
	if u, ok := rv.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(v, rv, u, p)
		return
	}
	switch rv.Kind() {
	case reflect.Struct:
		m, ok := v.(map[string]any)
		if !ok {
			d.reject(p, "%s must be a table, [%s], not %s", p, p, kindOf(v))
			return
		}
		d.table(m, rv, p)
	case reflect.Slice:
		if isScalar(rv.Type().Elem()) {
			d.scalars(v, rv, p)
		} else {
			d.list(v, rv, p)
		}
	case reflect.String:
		s, ok := v.(string)
		if !ok {
			d.reject(p, "%s must be a string in quotes, not %s", p, kindOf(v))
			return
		}
		d.str(s, rv, p)
	case reflect.Int:
		n, ok := v.(int64)
		if !ok {
			d.reject(p, "%s must be a whole number%s, not %s", p, withoutQuotes(v), kindOf(v))
			return
		}
		if b, ok := bounds[index.ReplaceAllString(string(p), "")]; ok && (n < b[0] || n > b[1]) {
			d.reject(p, "%s: %d is out of range: want %d to %d", p, n, b[0], b[1])
			return
		}
		rv.SetInt(n)
	case reflect.Bool:
		b, ok := v.(bool)
		if !ok {
			d.reject(p, "%s must be true or false%s, not %s", p, withoutQuotes(v), kindOf(v))
			return
		}
		rv.SetBool(b)
	default:
		panic(fmt.Sprintf("config: field %s has a type that the decoder does not know: %s", p, rv.Type()))
	}
}

// index matches a list index in a path, such as [0].
var index = regexp.MustCompile(`\[\d+\]`)

// text fills rv, a scalar whose type implements encoding.TextUnmarshaler.
func (d *decoder) text(v any, rv reflect.Value, u encoding.TextUnmarshaler, p path) {
	if n, ok := v.(int64); ok {
		if u, ok := u.(numbered); ok {
			if err := u.setNumber(n); err != nil {
				d.reject(p, "%s: %v", p, err)
			}
			return
		}
	}
	s, ok := v.(string)
	if !ok {
		example := ""
		if sample, ok := samples[rv.Type()]; ok {
			example = " like " + strconv.Quote(sample)
		}
		if n, ok := v.(int64); ok && rv.Type() == reflect.TypeFor[Size]() && n > 0 {
			example = fmt.Sprintf(` with a unit, like "%dM"`, n)
		}
		d.reject(p, "%s must be a string%s, not %s", p, example, kindOf(v))
		return
	}
	if err := u.UnmarshalText([]byte(s)); err != nil {
		d.reject(p, "%s: %v", p, err)
	}
}

func (d *decoder) str(s string, rv reflect.Value, p path) {
	switch rv.Type() {
	case reflect.TypeFor[Path]():
		s = d.file(s, p)
	case reflect.TypeFor[Kernel]():
		if !strings.HasPrefix(s, storePrefix) {
			s = d.file(s, p)
		}
	case reflect.TypeFor[Image]():
		s = d.image(s, p)
	default:
		if words := choices[rv.Type()]; words != nil && !slices.Contains(words, s) {
			d.reject(p, "%s: unknown value %s: want %s%s", p, quote(s), list(words), DidYouMean(s, words))
			return
		}
	}
	rv.SetString(s)
}

// file returns s as an absolute path.
func (d *decoder) file(s string, p path) string {
	switch {
	case s == "":
		d.reject(p, "%s: path is empty", p)
		return ""
	case strings.IndexByte(s, 0) >= 0:
		d.reject(p, "%s: path %s contains a NUL character", p, quote(s))
		return ""
	}
	dir := d.baseDir
	if d.at(p).flag != "" {
		dir = d.flagsDir
	}
	if !filepath.IsAbs(s) {
		s = filepath.Join(dir, s)
	}
	return filepath.Clean(s)
}

// image makes the path in an image's name absolute. Only a name that starts with /, ./ or ../ is a
// path.
func (d *decoder) image(s string, p path) string {
	if layout, ok := strings.CutPrefix(s, ociPrefix); ok {
		return ociPrefix + d.file(layout, p)
	}
	abs := d.file(s, p)
	if abs == "" || filepath.IsAbs(s) || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") {
		return abs
	}
	return s
}

// ociPrefix is the prefix of an OCI layout's name.
const ociPrefix = "oci:"

// word fills rv from a flag's text.
func (d *decoder) word(s string, rv reflect.Value, p path) {
	if _, ok := rv.Addr().Interface().(encoding.TextUnmarshaler); ok || rv.Kind() == reflect.String {
		d.value(s, rv, p)
		return
	}
	switch rv.Kind() {
	case reflect.Slice:
		if !isScalar(rv.Type().Elem()) {
			d.reject(p, "%s must be KEY=VALUE pairs, not %s", p, quote(s))
			return
		}
		var entries []any
		for e := range strings.SplitSeq(s, ",") {
			entries = append(entries, e)
		}
		d.scalars(entries, rv, p)
	case reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			d.reject(p, "%s must be a whole number, not %s", p, quote(s))
			return
		}
		d.value(int64(n), rv, p)
	case reflect.Bool:
		switch s {
		case "true", "on":
			rv.SetBool(true)
		case "false", "off":
			rv.SetBool(false)
		default:
			d.reject(p, "%s must be on or off, not %s", p, quote(s))
		}
	default:
		d.reject(p, "%s must be KEY=VALUE pairs, not %s", p, quote(s))
	}
}

// isScalar reports whether a value of type t is read from a string.
func isScalar(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// scalars fills a slice of scalar types. An empty list leaves the slice nil.
func (d *decoder) scalars(v any, rv reflect.Value, p path) {
	entries, ok := v.([]any)
	if !ok {
		if _, tables := v.([]map[string]any); !tables {
			d.reject(p, "%s must be a list of strings in brackets, not %s", p, kindOf(v))
			return
		}
		d.reject(p, "%s must be a list of strings, not a list of tables", p)
		return
	}
	var out reflect.Value
	for i, e := range entries {
		if i == 0 {
			out = reflect.MakeSlice(rv.Type(), len(entries), len(entries))
		}
		d.value(e, out.Index(i), p.index(i))
	}
	if out.IsValid() {
		rv.Set(out)
	}
}

// list fills a slice of structs from [[p]] tables or an array of inline tables.
func (d *decoder) list(v any, rv reflect.Value, p path) {
	var entries []any
	switch v := v.(type) {
	case []map[string]any:
		for _, m := range v {
			entries = append(entries, m)
		}
	case []any:
		entries = v
	default:
		d.reject(p, "%s must be a list of tables, [[%s]], not %s%s", p, p, kindOf(v), listHint(v, p))
		return
	}
	if len(entries) == 0 {
		rv.SetZero() // as if the list were absent
		return
	}
	out := reflect.MakeSlice(rv.Type(), len(entries), len(entries))
	for i, e := range entries {
		out.Index(i).Addr().Interface().(defaulter).setDefaults()
		m, ok := e.(map[string]any)
		if !ok {
			d.reject(p.index(i), "%s must be a table, not %s", p.index(i), kindOf(e))
			continue
		}
		d.table(m, out.Index(i), p.index(i))
	}
	rv.Set(out)
}

func listHint(v any, p path) string {
	if _, ok := v.(map[string]any); ok {
		return fmt.Sprintf(": write [[%s]] with two brackets", p)
	}
	return ""
}

// keysOf returns the TOML names of a struct's fields, in order.
func keysOf(t reflect.Type) []string {
	var keys []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("toml"), ",")
		keys = append(keys, name)
	}
	return keys
}

func in(p path) string {
	if p == "" {
		return ""
	}
	return " in " + string(p)
}

func withoutQuotes(v any) string {
	if _, ok := v.(string); ok {
		return " without quotes"
	}
	return ""
}

// kindOf names the type of a TOML value and, if it is a scalar, the value.
func kindOf(v any) string {
	switch v := v.(type) {
	case string:
		return "the string " + quote(v)
	case int64:
		return fmt.Sprintf("the number %d", v)
	case float64:
		return fmt.Sprintf("the number %v", v)
	case bool:
		return fmt.Sprintf("%t", v)
	case time.Time:
		return "a date"
	case map[string]any:
		return "a table"
	default:
		return "a list"
	}
}
