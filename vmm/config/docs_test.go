package config

import (
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// docRows returns the rows of docs/configuration.md, each key with its default, and the examples
// there.
func docRows(t *testing.T) (rows map[string]string, examples []string) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	rows = map[string]string{}
	section, example, inside := "", "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "```toml":
			inside, example = true, ""
		case line == "```" && inside:
			inside, examples = false, append(examples, example)
		case inside:
			example += line + "\n"
		case strings.HasPrefix(line, "## ["):
			section = strings.Trim(line, "# []") + "."
		case line == "## Top level":
			section = ""
		case strings.HasPrefix(line, "## "):
			section = "none."
		case strings.HasPrefix(line, "| `") && section != "none.":
			cells := strings.Split(line, " | ")
			rows[section+strings.Trim(cells[0], "|` ")] = cells[2]
		}
	}
	return rows, examples
}

// schema calls f for every key of Config with its default, taken from a minimal file.
func schema(t *testing.T, f func(key string, def reflect.Value)) {
	least, err := parseTest(boot + "[[net]]\n[[disk]]\npath = 'a.img'\n")
	if err != nil {
		t.Fatal(err)
	}
	top := reflect.ValueOf(*least)
	for i, table := range keysOf(top.Type()) {
		v := top.Field(i)
		if v.Kind() == reflect.Slice {
			v = v.Index(0)
		}
		if v.Kind() != reflect.Struct {
			f(table, v)
			continue
		}
		for j, key := range keysOf(v.Type()) {
			f(table+"."+key, v.Field(j))
		}
	}
}

func TestEveryKeyIsDocumentedWithItsDefault(t *testing.T) {
	rows, _ := docRows(t)
	schema(t, func(key string, def reflect.Value) {
		got, ok := rows[key]
		if !ok {
			t.Errorf("docs/configuration.md has no row for %s", key)
			return
		}
		delete(rows, key)
		want := fmt.Sprintf("`%v`", def)
		switch def.Interface().(type) {
		case Size, Duration, Notify, Cache, ConsoleMode, BootProtocol, NetBackend, DiskBackend, WorkerCount, Sched:
			want = fmt.Sprintf("`\"%v\"`", def)
		}
		switch {
		case key == "name":
			want = "the file's name"
		case key == "net.mac" || key == "disk.serial":
			want = "derived"
		case key == "net.id" || key == "disk.id":
			want = fmt.Sprintf("`%s0`, `%[1]s1`, …", strings.TrimSuffix(key, ".id"))
		case key == "boot.kernel" || key == "disk.path", def.IsZero() && def.Kind() != reflect.Bool:
			want = "—"
		}
		if got != want {
			t.Errorf("%s: docs/configuration.md gives the default %s, want %s", key, got, want)
		}
	})
	for key := range rows {
		t.Errorf("docs/configuration.md has a row for %s, which is not a key", key)
	}
}

// anyFile is a stat function for which every file exists.
func anyFile(name string) (fs.FileInfo, error) {
	if name == "/vm" {
		return testStat("/vm/folder")
	}
	return testStat("/vm/a.img")
}

func TestTheExamplesAreValidAndOneHasEveryKey(t *testing.T) {
	_, examples := docRows(t)
	debian, err := os.ReadFile("../../examples/debian.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(examples, string(debian)) {
		if _, err := resolve(source{name: "/vm/vm.toml", data: []byte(text), file: true, stat: anyFile, raw: testRaw}); err != nil {
			t.Errorf("%v, in\n%s", err, text)
		}
	}
	var values map[string]any
	if err := toml.Unmarshal([]byte(examples[len(examples)-1]), &values); err != nil {
		t.Fatal(err)
	}
	found := map[path]bool{}
	walk(values, "", found)
	schema(t, func(key string, _ reflect.Value) {
		table, rest, _ := strings.Cut(key, ".")
		for i := range 4 {
			if found[path(key)] || found[path(table).index(i).key(rest)] {
				return
			}
		}
		t.Errorf("the complete example lacks %s", key)
	})
}
