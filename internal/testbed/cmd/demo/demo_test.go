package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/transcript"
	"minivmm/vmm/account"
	"minivmm/vmm/config"
)

// shell answers on the console as the guest does: it echoes typed text and runs nothing.
type shell struct {
	m       *machine
	answers map[string]string
}

var command = regexp.MustCompile(`^echo "\[be"gin\]; (.*); echo "\[sta"tus \$\?\]\n$`)

func (s *shell) Write(p []byte) (int, error) {
	m := command.FindStringSubmatch(string(p))
	if m == nil {
		return 0, os.ErrInvalid
	}
	go func() {
		// Answer in two pieces, as a serial port would.
		out := strings.ReplaceAll(string(p)+"[begin]\n"+s.answers[m[1]]+"/ # ", "\n", "\r\n")
		s.m.console.Write([]byte(out[:len(out)/2]))
		s.m.console.Write([]byte(out[len(out)/2:]))
	}()
	return len(p), nil
}

func TestCommandsAreTypedAndTheirEndIsSeen(t *testing.T) {
	s := &shell{answers: map[string]string{
		"uname -r": "6.12\n[status 0]\n",
		"false":    "a word\n[status 1]\n",
		"two":      "1\n2\n[status 0]\n",
	}}
	s.m = &machine{keyboard: s, console: transcript.New()}
	if _, err := s.m.console.Write([]byte("booting\r\n/ # \x1b[6n")); err != nil {
		t.Fatal(err)
	}
	if out, err := s.m.run(t.Context(), "uname -r"); err != nil || out != "6.12" {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := s.m.run(t.Context(), "false"); err == nil || !strings.Contains(err.Error(), "a word") {
		t.Errorf("status 1 gave %v", err)
	}
	if out, err := s.m.run(t.Context(), "two"); err != nil || out != "1\n2" {
		t.Errorf("got %q, %v", out, err)
	}
	s.m.console.End()
	if _, _, err := s.m.console.Expect(t.Context(), begun); err == nil {
		t.Error("the end of the console was not detected")
	}
}

func TestFilesAreInstalledOnceAndTheDiskIsSparse(t *testing.T) {
	dir := t.TempDir()
	from, to, disk := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "disk")
	for _, content := range []string{"one", "another"} {
		if err := os.WriteFile(from, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := install(from, to); err != nil {
			t.Fatal(err)
		}
		first, err := os.Stat(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := install(from, to); err != nil {
			t.Fatal(err)
		}
		second, err := os.Stat(to)
		if err != nil || !os.SameFile(first, second) {
			t.Errorf("the same content was installed again (%v)", err)
		}
		if b, err := os.ReadFile(to); err != nil || string(b) != content {
			t.Errorf("got %q, %v", b, err)
		}
	}
	if err := os.WriteFile(disk, make([]byte, transferBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeDisk(disk); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(disk, &st); err != nil || st.Size != diskBytes || st.Blocks > 64 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
}

func TestReportIsGoodOnlyIfAllIsThere(t *testing.T) {
	good := func() *report {
		r := &report{host: "6.12", guest: "6.1", cfg: &config.Config{Net: make([]config.Net, 1)}}
		for _, x := range transfers {
			c := counters{exits: 500, userExits: 5, packets: 2000, requests: 1000}
			r.results = append(r.results, result{transfer: x, took: 2 * time.Second, counters: c, host: "a", guest: "a"})
		}
		for i, device := range []string{"net0", "scsi0"} {
			used := account.Usage{CPU: 1e9}
			r.workers = append(r.workers, account.Thread{Role: device, TID: 164 + i, Kthread: i == 1, Usage: used})
		}
		return r
	}
	var out bytes.Buffer
	if err := good().print(&out); err != nil || !good().good() {
		t.Fatalf("good is false for a good report (%v)", err)
	}
	for _, want := range []string{"disk, read", "32", "same at both ends",
		"1000 requests", "0.0050", "2000 packets", "0.0025", "thread 164", "scsi0", "1.000 s", "kernel thread 165"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
	for name, spoil := range map[string]func(*report){
		"checksum":  func(r *report) { r.results[2].host = "b" },
		"checksums": func(r *report) { r.results[2].host, r.results[2].guest = "", "" },
		"transfer":  func(r *report) { r.results = r.results[1:] },
		"worker":    func(r *report) { r.workers = r.workers[1:] },
	} {
		r := good()
		spoil(r)
		if r.good() {
			t.Errorf("good is true for a report with a bad or missing %s", name)
		}
	}
}

func TestProgressIsWrittenInLines(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, start: time.Now()}
	p.printf("one")
	for _, part := range []string{"tw", "o\nthr", "ee\n", "not yet"} {
		if n, err := p.Write([]byte(part)); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	if want := "   0s  one\n   0s  two\n   0s  three\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
