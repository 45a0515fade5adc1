package pcap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// record is a frame in a capture.
type record struct {
	at    time.Time
	frame []byte
}

// read reads a complete capture.
func read(t testing.TB, name string) (all []record) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	if len(b) < 24 || le.Uint32(b) != 0xa1b23c4d || le.Uint16(b[4:]) != 2 || le.Uint16(b[6:]) != 4 || le.Uint32(b[20:]) != 1 {
		t.Fatalf("header % x", b[:min(len(b), 24)])
	}
	for b = b[24:]; len(b) > 0; {
		n := int(le.Uint32(b[8:]))
		if le.Uint32(b[12:]) != uint32(n) || len(b) < 16+n {
			t.Fatalf("record % x", b[:16])
		}
		all = append(all, record{time.Unix(int64(le.Uint32(b)), int64(le.Uint32(b[4:]))), b[16 : 16+n]})
		b = b[16+n:]
	}
	return all
}

func TestACaptureCanBeRead(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.pcap")
	start := time.Now()
	f, err := Create(name, 1<<20, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(nil, []byte("one"), []byte(" and"))
	f.Write(func(b []byte) { b[0] = 'T' }, []byte("two"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f.Write(nil, []byte("late"))
	got := read(t, name)
	if len(got) != 2 || string(got[0].frame) != "one and" || string(got[1].frame) != "Two" || got[0].at.Before(start) || got[1].at.After(time.Now()) {
		t.Errorf("%v", got)
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// A new capture replaces it.
	if f, err = Create(name, 1<<20, t.Logf); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got := read(t, name); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestOnlyCapturesAreReplaced(t *testing.T) {
	name := filepath.Join(t.TempDir(), "disk.img")
	for _, content := range []string{"precious", "x"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Create(name, 1<<20, t.Logf); !errors.Is(err, os.ErrExist) {
			t.Errorf("%v", err)
		}
		if b, _ := os.ReadFile(name); string(b) != content {
			t.Errorf("the file is now %q", b)
		}
	}
	if _, err := Create("/dev/null", 1<<20, t.Logf); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Error(err)
	}
}

// logbook records log lines.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) logf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func TestTheLimitIsEnforced(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x.pcap")
	var l logbook
	f, err := Create(name, 100_000, l.logf)
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		f.Write(nil, make([]byte, 984))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, name); len(got) != 99 || len(l.lines) != 1 || !strings.Contains(l.lines[0], "maximum size") {
		t.Errorf("%d records, %q", len(got), l.lines)
	}
}

// A full disk stops the capture, is logged once, and does not block writers.
func TestAFullDiskStopsTheCapture(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	var l logbook
	f := start(full, 1<<40, l.logf)
	frame := bytes.Repeat([]byte("x"), 60_000)
	f.Write(nil, frame)
	if err := f.tasks.Stop(); err != nil {
		t.Error(err)
	}
	for range 1000 {
		f.Write(nil, frame)
	}
	if f.bytes != 0 || f.Close() != nil || len(l.lines) != 1 || !strings.Contains(l.lines[0], "no space left") {
		t.Errorf("%d bytes are queued; %q", f.bytes, l.lines)
	}
}

// A disk that is too slow, here a pipe without a reader, costs a bounded amount of memory, and lost
// frames are counted.
func TestASlowDiskDropsAndCountsFrames(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var l logbook
	f := start(w, 1<<40, l.logf)
	frame := make([]byte, 60_000)
	for range 200 {
		f.Write(nil, frame)
	}
	f.mu.Lock()
	if f.bytes > maxQueue || f.dropped < 100 {
		t.Errorf("%d bytes are queued, %d dropped", f.bytes, f.dropped)
	}
	f.mu.Unlock()
	r.Close()
	f.Close()
	if len(l.lines) != 2 || !strings.Contains(l.lines[1], "arrived faster") {
		t.Errorf("%q", l.lines)
	}
}
