package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// FuzzParse checks that no text makes the parser panic, that every problem has a position inside
// the text, and that an accepted configuration is the same after it is written and parsed again.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", boot, "[boot]\nkernel = 'vmlinuz'\n[[net]]\nmtu = 1500\n[[disk]]\npath = \"a.img\"\n[workers]\naffinity = '2-3,5'\n",
		boot + "disk = [ {path='a.img', readonly = true}, # x\n {path=\"b.img\"} ]\nmachine = {memory = '64M', vcpus = 2}\n",
		boot + "name = '''a'''\nname = \"\"\"b\\\"\"\"\"\"\"\n", "[[net]]\n[net.mac]\n[[net.x]]\n", "x = [[[[{a.b=1}]]]]", "\ufeff[a]\r\nb=1979-05-27 07:32:00Z\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		cfg, err := parseTest(data)
		if err == nil {
			again, err := parseTest(string(cfg.TOML()))
			if err != nil || !reflect.DeepEqual(cfg, again) {
				t.Fatalf("TOML output parses to another configuration: %v\n%s", err, cfg.TOML())
			}
			return
		}
		var e *Error
		if !errors.As(err, &e) || len(e.Problems) == 0 {
			t.Fatalf("got %T %v", err, err)
		}
		lines := strings.Split(data, "\n")
		last := Problem{Line: 1}
		for _, p := range e.Problems {
			if p.Line < 1 || p.Line > len(lines) || p.Col < 1 || p.Col > len(lines[p.Line-1])+1 {
				t.Errorf("position outside the text: %s", p)
			}
			if p.Line < last.Line || p.Line == last.Line && p.Col < last.Col {
				t.Errorf("problems out of order: %s after %s", p, last)
			}
			if strings.ContainsAny(p.Text, "\n\x1b") {
				t.Errorf("problem text is not one printable line: %q", p.Text)
			}
			last = p
		}
	})
}

// FuzzScan checks that in every valid TOML text the scanner finds exactly the keys and values that
// the TOML reader finds.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		"a = 1\n[b]\nc.d = 'x' # y\n[[e]]\nf = [1, {g = \"]\"}]\n[[e]]\n[e.h]\ni = true\n[[e.j]]\n", "\"a.b\" . 'c' = \"\\\"]\"\n",
		"a = \"\"\"x\"\"\"\"\"\nb = '''y''\n'''\n", "a = [ # ]\n 1979-05-27 07:32:00, \n [ ], {} ]\n", "a = {\n b = 1, # }\n c = {}, \n}\n", "\"\\u0061\" = -inf\n[ x . \"y\" ]\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		if off, what := notText([]byte(data)); what != "" || off > 0 || len(data) > 4096 || strings.HasPrefix(data, "\ufeff") {
			return
		}
		broken := false
		s := scan(data, func(int, string, ...any) { broken = true })
		if s.tooDeep {
			return
		}
		values := map[string]any{}
		if _, err := toml.Decode(data, &values); err != nil {
			return
		}
		if broken {
			t.Fatalf("the scanner rejects text that the TOML reader accepts")
		}
		found := map[path]bool{}
		walk(values, "", found)
		for p := range found {
			if _, ok := s.spots[p]; !ok {
				t.Errorf("the scanner misses %s", p)
			}
		}
		for p, at := range s.spots {
			if !found[p] {
				t.Errorf("the scanner finds %s, which the TOML reader does not", p)
			}
			if at.key < 0 || at.value < at.key && data[at.value] != '[' || at.value >= len(data) {
				t.Errorf("%s has position %+v in a text of %d bytes", p, at, len(data))
			}
		}
	})
}

func walk(v any, p path, found map[path]bool) {
	if p != "" {
		found[p] = true
	}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			walk(e, p.key(k), found)
		}
	case []map[string]any:
		for i, e := range v {
			walk(e, p.index(i), found)
		}
	case []any:
		for i, e := range v {
			walk(e, p.index(i), found)
		}
	}
}
