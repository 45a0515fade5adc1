package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/BurntSushi/toml"

	"minivmm/internal/diskimage"
)

// maxFile is the maximum size of a configuration file in bytes.
const maxFile = 1 << 20

// Parse resolves the text of a configuration file. name is the file's path: it appears in messages,
// and relative paths in the text start at the folder of the file.
func Parse(name string, data []byte) (*Config, error) {
	return resolve(source{name: name, data: data, file: true, stat: os.Stat, raw: diskimage.CheckRaw})
}

// Setting is one value from a flag. It is checked against the same schema as the values in the
// file.
type Setting struct {
	Flag  string // the flag's name in error messages: "--memory"
	Key   string // "machine.memory"; "disk.0.path" for a list entry; one word for a top-level key
	Value string // the value without quotes; relative paths start at the working directory
	Clear bool   // set nothing, and discard what the file set under Key
}

// Resolve builds a configuration from the file called name (no file if name is empty) and from
// settings, which override the file. Settings for entries of a list replace the file's whole list.
// If the contents are invalid, Resolve returns an [*Error] with all problems. If the file cannot be
// read, it returns the operating system's error.
func Resolve(name string, settings []Setting) (*Config, error) {
	src := source{name: name, settings: settings, stat: os.Stat, raw: diskimage.CheckRaw}
	if name != "" {
		data, err := read(name)
		if err != nil {
			return nil, err
		}
		src.data, src.file = data, true
	}
	return resolve(src)
}

// read returns the content of a regular file, at most maxFile+1 bytes.
func read(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a FIFO must not wait for a writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// source is the input from which a Config is built.
type source struct {
	name     string
	data     []byte
	file     bool
	settings []Setting
	stat     func(string) (fs.FileInfo, error)
	raw      func(string) error // returns an error for a disk image that is not raw
}

func resolve(src source) (*Config, error) {
	r := &report{file: src.name, data: src.data}
	d := &decoder{report: r, given: map[path]bool{}, broken: map[path]bool{}, flags: map[path]place{}, stat: src.stat, raw: src.raw}
	values := map[string]any{}
	if src.file {
		var ok bool
		if values, ok = d.read(src.data); !ok {
			return nil, r.err()
		}
	} else {
		d.flags[""] = place{flag: "command line"}
	}
	if err := d.dirs(src.name); err != nil {
		return nil, err
	}
	d.overlay(values, src.settings)

	cfg := &Config{Name: "vm"}
	if src.file {
		cfg.Name = deriveName(src.name)
	}
	cfg.setDefaults()
	d.table(values, reflect.ValueOf(cfg).Elem(), "")
	cfg.derive()
	(&checker{d}).config(cfg)
	if err := r.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// dirs sets the base folders for relative paths.
func (d *decoder) dirs(name string) (err error) {
	if d.flagsDir, err = os.Getwd(); err != nil {
		return err
	}
	d.baseDir = filepath.Dir(name)
	if !filepath.IsAbs(d.baseDir) {
		d.baseDir = filepath.Join(d.flagsDir, d.baseDir)
	}
	return nil
}

// maxBroken bounds how many unreadable statements are reported in one run.
const maxBroken = 20

// read returns the values of a TOML text and stores the positions of its keys. A statement that
// cannot be read is reported and blanked, and the text is read again. read returns false if the
// rest of the text cannot be trusted; the caller then reports only the problems found so far.
func (d *decoder) read(data []byte) (map[string]any, bool) {
	if len(data) > maxFile {
		d.add(place{}, "the file is larger than %d KiB", maxFile>>10)
		return nil, false
	}
	if off, what := notText(data); what != "" {
		d.add(place{off: off}, "%s: TOML files are UTF-8 text", what)
		return nil, false
	}
	text := string(data)
	if bom := "\ufeff"; strings.HasPrefix(text, bom) {
		text = strings.Repeat(" ", len(bom)) + text[len(bom):]
	}
	s := scan(text, func(off int, format string, args ...any) { d.add(place{off: off}, format, args...) })
	d.spots = s.spots
	if s.tooDeep {
		return nil, false
	}
	for i := range s.statements {
		if st := &s.statements[i]; st.broken && !st.header {
			text = d.blank(text, st)
		}
	}
	for range maxBroken {
		values := map[string]any{}
		_, err := toml.Decode(text, &values)
		if err == nil {
			return values, true
		}
		var pe toml.ParseError
		if !errors.As(err, &pe) {
			d.add(place{}, "%v", err)
			return nil, false
		}
		off := min(max(pe.Position.Start, 0), len(text))
		for off < len(text) && text[off] == ' ' {
			off++
		}
		st := s.statementAt(off)
		if st == nil {
			d.add(place{off: off}, "%s", message(pe))
			return nil, false
		}
		if !st.broken {
			d.add(place{off: max(off, st.start)}, "%s", message(pe))
		}
		if st.broken || st.header || strings.Contains(text[st.start:st.end], "\n") {
			return nil, false
		}
		text = d.blank(text, st)
	}
	return nil, false
}

// blank replaces a statement with spaces, so that all other statements keep their positions. It
// marks the keys that the statement set as broken.
func (d *decoder) blank(text string, st *statement) string {
	st.broken = true
	for _, p := range st.paths {
		d.broken[p] = true
	}
	d.blind = d.blind || len(st.paths) == 0
	gone := strings.Map(func(r rune) rune {
		if r == '\n' {
			return r
		}
		return ' '
	}, text[st.start:st.end])
	gone += strings.Repeat(" ", st.end-st.start-len(gone))
	return text[:st.start] + gone + text[st.end:]
}

// message returns the TOML reader's message in our format: one line, without terminal control
// characters.
func message(pe toml.ParseError) string {
	m := strings.TrimSpace(pe.Message)
	if m == "" {
		return "invalid TOML"
	}
	if len(m) > 1 && m[1] >= 'a' && m[1] <= 'z' {
		m = strings.ToLower(m[:1]) + m[1:]
	}
	var b strings.Builder
	for _, r := range m {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
	}
	return b.String()
}

// notText finds the first character that is not allowed in TOML.
func notText(data []byte) (off int, what string) {
	for off < len(data) {
		r, n := utf8.DecodeRune(data[off:])
		switch {
		case r == utf8.RuneError && n == 1:
			return off, fmt.Sprintf("byte %#02x is not UTF-8", data[off])
		case r == '\r' && off+1 < len(data) && data[off+1] == '\n', r == '\n', r == '\t':
		case r < ' ' || r == 0x7f:
			return off, fmt.Sprintf("character %#02x is a control character", r)
		}
		off += n
	}
	return 0, ""
}

// overlay overrides the file's values with settings.
func (d *decoder) overlay(values map[string]any, settings []Setting) {
	lists := map[string][]map[string]any{}
	for nth, set := range settings {
		at := place{flag: set.Flag, nth: nth + 1}
		table, rest, nested := strings.Cut(set.Key, ".")
		index, key, entry := strings.Cut(rest, ".")
		switch {
		case set.Clear:
			d.forget(values, set.Key)
		case nested && !entry:
			m, ok := values[table].(map[string]any)
			if values[table] == nil {
				m, ok = map[string]any{}, true
				values[table] = m
			}
			if ok {
				m[rest] = word(set.Value)
				d.flags[path(table).key(rest)] = at
			}
		case entry:
			i, err := strconv.Atoi(index)
			if err != nil {
				panic(fmt.Sprintf("config: setting with key %q", set.Key))
			}
			for len(lists[table]) <= i {
				lists[table] = append(lists[table], map[string]any{})
			}
			lists[table][i][key] = word(set.Value)
			if p := path(table).index(i); d.flags[p].flag == "" {
				d.flags[p] = at
			}
			d.flags[path(table).index(i).key(key)] = at
		default:
			values[table] = word(set.Value)
			d.flags[path(table)] = at
		}
	}
	for table, entries := range lists {
		d.forget(values, table)
		values[table] = entries
	}
}

// forget discards what the file set under a top-level key.
func (d *decoder) forget(values map[string]any, key string) {
	delete(values, key)
	under := func(p path) bool {
		return string(p) == key || strings.HasPrefix(string(p), key+"[") || strings.HasPrefix(string(p), key+".")
	}
	maps.DeleteFunc(d.spots, func(p path, _ spot) bool { return under(p) })
	maps.DeleteFunc(d.broken, func(p path, _ bool) bool { return under(p) })
}
