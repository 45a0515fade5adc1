package tracepoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFind looks in folders that are like tracefs.
func TestFind(t *testing.T) {
	empty, full := t.TempDir(), t.TempDir()
	dir := filepath.Join(full, "events/kvm")
	for name, id := range map[string]string{"kvm_good": "1544\n", "kvm_odd": "many\n", "kvm_empty": ""} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "id"), []byte(id), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		roots []string
		name  string
		id    uint64
		want  string
	}{
		{[]string{full}, "kvm/kvm_good", 1544, ""},
		{[]string{empty, full}, "kvm/kvm_good", 1544, ""},
		{[]string{full}, "kvm/kvm_odd", 0, `tracepoint kvm/kvm_odd: strconv.ParseUint: parsing "many"`},
		{[]string{full}, "kvm/kvm_empty", 0, `parsing ""`},
		{[]string{full, empty}, "kvm/kvm_none", 0, "tracepoint kvm/kvm_none: open " + dir + "/kvm_none/id: no such file or directory (is tracefs mounted?"},
	} {
		p, err := find(c.roots, c.name)
		if p.id != c.id || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s in %v: %+v, %v; want %d, %s", c.name, c.roots, p, err, c.id, c.want)
		}
	}
	if _, err := find([]string{empty}, "kvm/kvm_none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tracepoint that there is not: %v", err)
	}
}
