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

	"minivmm/vmm/config"
)

const verbose = "minivmm: worker net0 (receive, transmit): thread 158 vhost-156, cgroup /, CPUs 0-1\n" +
	"minivmm: something else\r\n" +
	"minivmm: worker scsi0 (control, event, requests): kernel thread 165 vhost-154, cgroup unknown, CPUs 0,3-4\r\n"

func TestWorkersAreReadAsMinivmmPrintsThem(t *testing.T) {
	got := workers(verbose)
	want := []worker{
		{"net0", "receive, transmit", "thread", "158", "vhost-156", "/", "0-1"},
		{"scsi0", "control, event, requests", "kernel thread", "165", "vhost-154", "unknown", "0,3-4"},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestRequestsAddUpWhatCompleted(t *testing.T) {
	for stat, want := range map[string]uint64{
		"  136  9 1088 5  2000 7 8 9  0 11 12":                       2136, // before Linux 4.18
		"1 90 90 90 20 90 90 90 90 90 90 300 90 90 90":               321,
		"1 90 90 90 20 90 90 90 90 90 90 300 90 90 90 4000 90\n":     4321,
		"18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0": 1<<64 - 1,
	} {
		if got, err := requests(stat); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", stat, got, err, want)
		}
	}
	for _, bad := range []string{"", "1 2 3", "a b c d e f g h i j k l m n o p"} {
		if got, err := requests(bad); err == nil {
			t.Errorf("%q was read as %d", bad, got)
		}
	}
}

func TestCPUTimeIsTheFirstField(t *testing.T) {
	if got, err := onCPU("8986000123 77 12\n"); err != nil || got != 8986000123*time.Nanosecond {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := onCPU(""); err == nil {
		t.Errorf("an empty text was parsed as %v", got)
	}
}

func TestOnlyTheVMOfTheProcessIsFound(t *testing.T) {
	kvm, process := t.TempDir(), t.TempDir()
	for _, dir := range []string{"10-7", "20-8", "21-9"} {
		if err := os.MkdirAll(filepath.Join(kvm, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(process, "fd"), 0o755); err != nil {
		t.Fatal(err)
	}
	for fd, what := range map[string]string{"7": "anon_inode:kvm-vm", "8": "anon_inode:kvm-vm", "9": "anon_inode:kvm-vcpu:0"} {
		if err := os.Symlink(what, filepath.Join(process, "fd", fd)); err != nil {
			t.Fatal(err)
		}
	}
	before := []string{filepath.Join(kvm, "10-7")}
	got, err := findKVMCounters(kvm, process, before)
	if err != nil || string(got) != filepath.Join(kvm, "20-8") {
		t.Fatalf("got %q, %v", got, err)
	}
	if _, err := findKVMCounters(kvm, process, nil); err == nil {
		t.Error("one of two VMs was returned")
	}
	for name, n := range map[string]string{"exits": "100\n", "mmio_exits": "3\n", "io_exits": "4\n"} {
		if err := os.WriteFile(filepath.Join(string(got), name), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := got.read(); err != nil || e != (exits{100, 7}) {
		t.Errorf("got %+v, %v", e, err)
	}
}

// shell answers on the console as the guest does: it echoes typed text and runs nothing.
type shell struct {
	c       *console
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
		s.c.Write([]byte(out[:len(out)/2]))
		s.c.Write([]byte(out[len(out)/2:]))
	}()
	return len(p), nil
}

func TestCommandsAreTypedAndTheirEndIsSeen(t *testing.T) {
	s := &shell{answers: map[string]string{
		"uname -r": "6.12\n[status 0]\n",
		"false":    "a word\n[status 1]\n",
		"two":      "1\n2\n[status 0]\n",
	}}
	s.c = newConsole(s)
	if _, err := s.c.Write([]byte("booting\r\n/ # \x1b[6n")); err != nil {
		t.Fatal(err)
	}
	if out, err := s.c.run(t.Context(), "uname -r"); err != nil || out != "6.12" {
		t.Errorf("got %q, %v", out, err)
	}
	if _, err := s.c.run(t.Context(), "false"); err == nil || !strings.Contains(err.Error(), "a word") {
		t.Errorf("status 1 gave %v", err)
	}
	if out, err := s.c.run(t.Context(), "two"); err != nil || out != "1\n2" {
		t.Errorf("got %q, %v", out, err)
	}
	s.c.end()
	if _, _, err := s.c.expect(t.Context(), begun); err == nil {
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
	if err := makeDisk(disk, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeDisk(disk, transferBytes); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(make([]byte, transferBytes))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := freeBlocks(disk); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(disk, &st); err != nil || st.Size != transferBytes || st.Blocks > 64 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
}

func TestReportIsGoodOnlyIfAllIsThere(t *testing.T) {
	good := func() *report {
		r := &report{host: "6.12", guest: "6.1", cfg: &config.Config{Net: make([]config.Net, 1)}}
		for _, x := range transfers {
			r.results = append(r.results, result{transfer: x, took: 2 * time.Second, count: 1000, exits: exits{500, 5}, host: "a", guest: "a"})
		}
		for _, w := range workers(verbose) {
			r.workers = append(r.workers, workerTime{w, time.Second})
		}
		return r
	}
	var out bytes.Buffer
	if err := good().print(&out); err != nil || !good().good() {
		t.Fatalf("good is false for a good report (%v)", err)
	}
	for _, want := range []string{"disk, read", "32", "same at both ends", "1000 requests", "0.0050", "scsi0", "1.000 s", "kernel thread 165"} {
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
