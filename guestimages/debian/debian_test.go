package debian

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/testenv"
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
			got, ok := parsePolicy(tt.out)
			if ok != tt.ok || ok && got != tt.want {
				t.Errorf("got %q, %v, want %q, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestDependsDropsVersionsAndAlternatives(t *testing.T) {
	out := "Package: linux-image-amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2), kmod | busybox, c\nDescription: x\nDepends: no\n"
	want := []string{"linux-image-6.1.0-56-amd64", "kmod", "c"}
	if got := parseDepends(out); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := parseDepends("Package: x\n"); len(got) != 0 {
		t.Errorf("without a Depends field: got %q", got)
	}
}

func TestSourceVersionIsReadFromTheDscName(t *testing.T) {
	out := "Reading package lists...\n" +
		"'http://mirror.example/pool/q/qemu_7.2+dfsg-7.dsc' qemu_7.2+dfsg-7.dsc 7000 SHA256:ab\n" +
		"'http://mirror.example/pool/q/qemu_7.2+dfsg.orig.tar.xz' qemu_7.2+dfsg.orig.tar.xz 7000 SHA256:ab\n"
	if got, ok := parseSourceURIs(out, "qemu"); !ok || got != "7.2+dfsg-7" {
		t.Errorf("got %q, %v, want 7.2+dfsg-7", got, ok)
	}
	if got, ok := parseSourceURIs(out, "bash"); ok {
		t.Errorf("the version of another package was returned: %q", got)
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
			t.Errorf("%q was accepted as a package name", bad)
		}
	}
}

func TestPrivateSourcesAreForTheirUserOnly(t *testing.T) {
	etc, to := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		"sources.list":                  "deb http://u:secret@a.example/ x y\n",
		"sources.list.d/debian.sources": "Types: deb\nURIs: http://b.example/debian\nSuites: bookworm\nComponents: main\n",
		"sources.list.d/old.list.save":  "deb http://gone.example/ x y\n",
	} {
		write(t, filepath.Join(etc, name), content)
	}
	if err := copySources(etc, to); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadDir(to)
	if err != nil || len(got) != 2 || got[0].Name() != "debian.sources" || got[1].Name() != "sources.list" {
		t.Errorf("copied %v, %v, want debian.sources and sources.list", got, err)
	}
	for _, entry := range got {
		if info, err := entry.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("other users have access: %v, %v", info, err)
		}
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// release publishes a suite in the folder mirror, which apt reads as a mirror. The suite has one
// binary and one source package of the given version.
func release(t *testing.T, mirror, origin, suite, version string) {
	dists := filepath.Join(mirror, "dists", suite)
	indexes := map[string]string{
		"main/binary-amd64/Packages": "Package: tool\nVersion: " + version + "\nArchitecture: amd64\nMaintainer: nobody <n@example.org>\n" +
			"Filename: pool/tool.deb\nSize: 1\nSHA256: 0\nDescription: a test\n",
		"main/source/Sources": "Package: tool\nFormat: 1.0\nBinary: tool\nArchitecture: any\nVersion: " + version + "\nDirectory: pool\n" +
			"Maintainer: nobody <n@example.org>\nFiles:\n 0 1 tool_" + version + ".dsc\nChecksums-Sha256:\n 0 1 tool_" + version + ".dsc\n",
	}
	sums := ""
	for name, content := range indexes {
		write(t, filepath.Join(dists, name), content)
		sums += fmt.Sprintf(" %x %d %s\n", sha256.Sum256([]byte(content)), len(content), name)
	}
	write(t, filepath.Join(dists, "Release"), fmt.Sprintf("Origin: %s\nLabel: %s\nSuite: %s\nCodename: %s\nDate: Sat, 01 Jan 2022 00:00:00 UTC\n"+
		"Architectures: amd64\nComponents: main\nSHA256:\n%s", origin, origin, suite, suite, sums))
}

// TestASuiteComesFromTheMachinesDebianMirror uses package sources of Debian and of another archive.
func TestASuiteComesFromTheMachinesDebianMirror(t *testing.T) {
	testenv.Need(t, "debian")
	other, debians, etc := t.TempDir(), t.TempDir(), t.TempDir()
	release(t, other, "Other", "old", "0.9")
	release(t, debians, "Debian", "old", "1.0")
	release(t, debians, "Debian", "new", "2.0")
	write(t, filepath.Join(etc, "sources.list"),
		"deb [trusted=yes] copy:"+other+" old main\ndeb [trusted=yes] copy:"+debians+" old main\n")
	a := NewAt(&cache.Cache{Root: t.TempDir()}, etc)
	if got, err := a.mirror(t.Context()); err != nil || strings.TrimSuffix(got, "/") != "copy:"+debians {
		t.Errorf("got mirror %q, %v, want copy:%s", got, err, debians)
	}
	if got, err := a.Version(t.Context(), "tool"); err != nil || got != "1.0" {
		t.Errorf("the machine's version: got %q, %v, want 1.0", got, err)
	}
	// The test's mirror is not signed.
	t.Setenv("APT_CONFIG", filepath.Join(etc, "apt.conf"))
	write(t, filepath.Join(etc, "apt.conf"), "Acquire::AllowInsecureRepositories \"true\";\n")
	s := a.Suite("new")
	for range 2 {
		if got, err := s.Version(t.Context(), "tool"); err != nil || got != "2.0" {
			t.Errorf("the suite's version: got %q, %v, want 2.0", got, err)
		}
		if got, err := s.SourceVersion(t.Context(), "tool"); err != nil || got != "2.0" {
			t.Errorf("the suite's source version: got %q, %v, want 2.0", got, err)
		}
		if err := os.RemoveAll(filepath.Join(debians, "dists/new")); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := a.Version(t.Context(), "tool"); err != nil || got != "1.0" {
		t.Errorf("the machine's version after the suite's: got %q, %v, want 1.0", got, err)
	}
	if err := a.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Version(t.Context(), "tool"); err == nil {
		t.Errorf("Forget kept the suite's answer %q", got)
	}
}

func TestErrorNamesTheFolderWithoutSources(t *testing.T) {
	etc := t.TempDir()
	if err := copySources(etc, t.TempDir()); err == nil || !strings.Contains(err.Error(), etc) {
		t.Errorf("got %v, want an error that names %s", err, etc)
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
		t.Error("leading zeros, an epoch of 0 or a revision of 0 changed the order")
	}
}

func TestProgressIsReadFromStatusLines(t *testing.T) {
	if p, ok := parseStatus("dlstatus:1:42.5000:Retrieving file 1 of 1 (3s remaining)"); !ok || p != 42.5 {
		t.Errorf("got %v, %v, want 42.5", p, ok)
	}
	for _, line := range []string{"", "pmstatus:x:1:y", "dlstatus:1:x:y", "dlstatus:1:400:y", "dlstatus:1:NaN:y", "dlstatus:1"} {
		if p, ok := parseStatus(line); ok {
			t.Errorf("%q: got %v, want no progress", line, p)
		}
	}
}
