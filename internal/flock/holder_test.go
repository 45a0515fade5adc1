package flock

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if who, known := Holder(&st); known {
		t.Errorf("not locked, but got %q", who)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile("/proc/self/comm", before, 0)
	// A process can choose any name, and this text is printed to terminals.
	if err := os.WriteFile("/proc/self/comm", []byte("a\x1b[2Jb c"), 0); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("process %d, a?[2Jb c", os.Getpid())
	if who, known := Holder(&st); !known || who != want {
		t.Errorf("got %q, want %q", who, want)
	}
}

func TestHasFlock(t *testing.T) {
	for info, want := range map[string]bool{
		"pos:\t0\nflags:\t02100002\nlock:\t1: FLOCK  ADVISORY  WRITE 3937 08:01:1966 0 EOF\n":                true,
		"pos:\t0\nlock:\t1: POSIX  ADVISORY  WRITE 3937 08:01:1966 0 EOF\nlock:\t2: FLOCK  ADVISORY  READ\n": true,
		"lock:\t1: POSIX  ADVISORY  WRITE 3937 08:01:1966 0 EOF\n":                                           false,
		"pos:\t0\nmnt_id:\t22\n": false,
		"lock:\t1:\nlock:":       false,
	} {
		if got := hasFlock(info); got != want {
			t.Errorf("%q: %v, want %v", info, got, want)
		}
	}
}
