package debian

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCandidateIsReadFromPolicy(t *testing.T) {
	tests := []struct {
		name, out, want string
		ok              bool
	}{
		{"offered", "seabios:\n  Installed: (none)\n  Candidate: 1.16.2-1\n  Version table:\n     1.16.2-1 500\n", "1.16.2-1", true},
		{"with an epoch", "x:\n  Installed: 1:1-1\n  Candidate: 1:7.2+dfsg-7+deb12u18+b3\n", "1:7.2+dfsg-7+deb12u18+b3", true},
		{"known by name only", "x:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n", "(none)", false},
		{"unknown", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parsePolicy([]byte(tt.out))
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %q, %v, want %q, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestDependsLosesVersionsAndAlternatives(t *testing.T) {
	out := "Package: linux-image-amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2), kmod | busybox, c\nDescription: x\nDepends: no\n"
	want := []string{"linux-image-6.1.0-56-amd64", "kmod", "c"}
	if got := parseDepends([]byte(out)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := parseDepends([]byte("Package: x\n")); len(got) != 0 {
		t.Errorf("without the field: got %q", got)
	}
}

func TestSourceVersionIsReadFromTheDscName(t *testing.T) {
	out := "Reading package lists...\n" +
		"'http://mirror.example/pool/q/qemu_7.2+dfsg-7.dsc' qemu_7.2+dfsg-7.dsc 7000 SHA256:ab\n" +
		"'http://mirror.example/pool/q/qemu_7.2+dfsg.orig.tar.xz' qemu_7.2+dfsg.orig.tar.xz 7000 SHA256:ab\n"
	if got, ok := parseSourceURIs([]byte(out), "qemu"); !ok || got != "7.2+dfsg-7" {
		t.Errorf("got %q, %v", got, ok)
	}
	if got, ok := parseSourceURIs([]byte(out), "bash"); ok {
		t.Errorf("another package's version was taken: %q", got)
	}
}

func TestPackageNamesCannotBeOptionsOrPaths(t *testing.T) {
	for _, good := range []string{"qemu-system-x86", "libglib2.0-dev", "linux-image-6.12.117+deb12-amd64", "g++"} {
		if err := checkName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "a", "-o", "../x", "a b", "A", "x=1", "x/y"} {
		if checkName(bad) == nil {
			t.Errorf("%q was taken for a package name", bad)
		}
	}
}

func TestPrivateSourcesGainSourcePackages(t *testing.T) {
	etc, to := t.TempDir(), t.TempDir()
	files := map[string]string{
		"sources.list": "# deb http://a.example/ x y\ndeb [signed-by=/k] http://a.example/debian bookworm main\n" +
			"deb-src http://old.example/debian bookworm main\n",
		"sources.list.d/debian.sources": "Types: deb\nURIs: http://b.example/debian\nSuites: bookworm\nComponents: main\n" +
			"Signed-By: /k\n\nTypes: deb deb-src\nURIs: http://c.example/\nSuites: x\n\nTypes: deb-src\nURIs: http://d.example/\n",
		"sources.list.d/old.list.save": "deb http://gone.example/ x y\n",
	}
	for name, content := range files {
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := deriveSources(etc, to); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"sources.list": "# deb http://a.example/ x y\ndeb [signed-by=/k] http://a.example/debian bookworm main\n" +
			"deb-src [signed-by=/k] http://a.example/debian bookworm main\n",
		"debian.sources": strings.Replace(files["sources.list.d/debian.sources"], "Types: deb\n", "Types: deb deb-src\n", 1),
	}
	got, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Errorf("%d files were written, want %d: %v", len(got), len(want), got)
	}
	for name, content := range want {
		b, err := os.ReadFile(filepath.Join(to, name))
		if err != nil {
			t.Error(err)
		}
		if string(b) != content {
			t.Errorf("%s:\n%s\nwant\n%s", name, b, content)
		}
		if info, err := os.Stat(filepath.Join(to, name)); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestWithoutSourcesTheFolderIsNamed(t *testing.T) {
	etc := t.TempDir()
	if err := deriveSources(etc, t.TempDir()); err == nil || !strings.Contains(err.Error(), etc) {
		t.Errorf("got %v", err)
	}
}

func TestVersionsAreOrderedAsDpkgDoes(t *testing.T) {
	ascending := []string{
		"1.0~~", "1.0~~a", "1.0~rc1-1", "1.0", "1.0a", "1.0+b", "1.0.1~deb12u1", "1.0.1-1~bpo12+1", "1.0.1-1", "1.0.1-1+deb12u1", "1.0.9", "1.0.10",
		"6.1.0-50", "6.1.170-3", "6.12.9", "6.12.117-1~deb12u1", "6.12.117-1", "1:0.1",
	}
	for i, a := range ascending {
		for j, b := range ascending {
			want := 0
			switch {
			case i < j:
				want = -1
			case i > j:
				want = 1
			}
			if got := CompareVersions(a, b); got != want {
				t.Errorf("%s and %s: got %d, want %d", a, b, got, want)
			}
		}
	}
	if CompareVersions("1.01", "1.1") != 0 || CompareVersions("0:1-0", "1") != 0 {
		t.Error("leading zeros, an epoch of 0 or a revision of 0 make a difference")
	}
}

func TestProgressIsReadFromStatusLines(t *testing.T) {
	if p, ok := parseStatus("dlstatus:1:42.5000:Retrieving file 1 of 1 (3s remaining)"); !ok || p != 42.5 {
		t.Errorf("got %v, %v", p, ok)
	}
	for _, line := range []string{"", "pmstatus:x:1:y", "dlstatus:1:x:y", "dlstatus:1:400:y", "dlstatus:1:NaN:y", "dlstatus:1"} {
		if p, ok := parseStatus(line); ok {
			t.Errorf("%q: got %v", line, p)
		}
	}
}
