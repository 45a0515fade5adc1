package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/vmm/config"
)

// consoleFile opens a console of mode "file". It returns a function that writes a line to it and
// waits until the line is in the file.
func consoleFile(t *testing.T, path string) func(line string) {
	t.Helper()
	return func(line string) {
		t.Helper()
		c, err := openConsole(config.Console{Mode: config.ConsoleFile, Path: config.Path(path), Size: 1 << 10}, nil, nil, false, false)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c.out, "%-99s\n", line)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestConsoleFileKeepsTheNewestOutput writes more than the file's limit, over several starts.
func TestConsoleFileKeepsTheNewestOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	line := consoleFile(t, path)
	for i := range 95 {
		line(fmt.Sprint("line ", i))
		if i == 0 {
			os.Chmod(path, 0o640)
		}
	}
	for name, want := range map[string][2]int{path: {90, 95}, path + ".1": {80, 90}} {
		b, err := os.ReadFile(name)
		if got := strings.Fields(strings.ReplaceAll(string(b), "line", "")); err != nil || len(got) != want[1]-want[0] || got[0] != fmt.Sprint(want[0]) {
			t.Errorf("%s contains %q, %v; want lines %v", name, got, err, want)
		}
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) != 2 {
		t.Errorf("%v, %v", all, err)
	}
}

// TestConsoleFileThatCannotBeRotated checks that the file stays within its limit even if no second
// file can be created.
func TestConsoleFileThatCannotBeRotated(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "console.log")
	if err := os.MkdirAll(path+".1/full", 0o700); err != nil {
		t.Fatal(err)
	}
	line := consoleFile(t, path)
	for i := range 15 {
		line(fmt.Sprint("line ", i))
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) != 500 || !strings.HasPrefix(string(b), "line 10 ") {
		t.Errorf("%d bytes, %v: %.20q", len(b), err, b)
	}

	// If the path is a symbolic link, its target is renamed.
	link, real := filepath.Join(dir, "link.log"), filepath.Join(t.TempDir(), "real.log")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	line = consoleFile(t, link)
	for range 15 {
		line("through the link")
	}
	if to, err := os.Readlink(link); err != nil || to != real {
		t.Errorf("the link is %q, %v", to, err)
	}
	if info, err := os.Stat(real + ".1"); err != nil || info.Size() != 1000 {
		t.Errorf("through a link: %v, %v", info, err)
	}
}
