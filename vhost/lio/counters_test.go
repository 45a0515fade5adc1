package lio

import (
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
)

// TestCounters gives two disks different counters, as the kernel would.
func TestCounters(t *testing.T) {
	_, tr := newFake(t)
	tg, err := tr.create(Config{Name: "vm", LUNs: []LUN{{Path: newImage(t, "a")}, {Path: newImage(t, "b")}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Counters{{Commands: 7, ReadMiB: 1, WriteMiB: 2}, {Commands: 1 << 40, Resets: 3}}
	for i, c := range want {
		dirs, err := filepath.Glob(tr.path("core", "fileio_*", tg.id.String()+"."+strconv.Itoa(i)+".*"))
		if err != nil || len(dirs) != 1 {
			t.Fatal(dirs, err)
		}
		for name, n := range map[string]uint64{"num_cmds": c.Commands, "read_mbytes": c.ReadMiB, "write_mbytes": c.WriteMiB, "resets": c.Resets} {
			path := filepath.Join(dirs[0], "statistics", "scsi_lu", name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(strconv.FormatUint(n, 10)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := tg.Counters(); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	dirs, _ := filepath.Glob(tr.path("core", "fileio_*", "*", "statistics", "scsi_lu"))
	if err := os.WriteFile(filepath.Join(dirs[0], "resets"), []byte("many\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := tg.Counters(); err == nil {
		t.Errorf("invalid counter: %+v", got)
	}
}
