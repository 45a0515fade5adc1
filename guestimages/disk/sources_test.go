package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSourcesOfARelease(t *testing.T) {
	etc := t.TempDir()
	mirrors := filepath.Join(etc, "mirrors.list")
	for name, text := range map[string]string{
		"sources.list": "# old style\n" +
			"deb [arch=amd64,i386 signed-by=/keys/a.gpg] http://u:pw@mirror/debian bookworm main contrib # comment\n" +
			"deb-src http://mirror/debian bookworm main\ndeb [broken http://x bookworm main\ndeb http://x\n",
		"sources.list.d/new.sources": "# new style\nTypes: deb deb-src\nURIs: mirror+file:" + mirrors + "\nSuites: bookworm-updates\n bookworm-backports\n" +
			"Components: main\nX-Odd: 1\n\nTypes: deb\nURIs: http://off\nSuites: bookworm\nComponents: main\nEnabled: No\n\n" +
			"types: deb\nuris: http://security\nsuites: bookworm-security\ncomponents: main\nSigned-By: /keys/b.gpg\n",
		"sources.list.d/other.sources": "Types: deb\nURIs: http://elsewhere\nSuites: stable\nComponents: contrib\n",
		"sources.list.d/note.txt":      "deb http://no bookworm main\n",
		"mirrors.list":                 "http://first/debian\thttp://second/debian\n",
	} {
		path := filepath.Join(etc, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	all, err := readSources(etc)
	if err != nil {
		t.Fatal(err)
	}
	const old = "Types: deb\nURIs: http://u:pw@mirror/debian\nSuites: SUITE\nComponents: main contrib\nArchitectures: amd64 i386\nsigned-by: /keys/a.gpg\n"
	const updates = "\nTypes: deb\nURIs: http://first/debian\nSuites: SUITE-updates\nComponents: main\nX-Odd: 1\n"
	const security = "\ntypes: deb\nuris: http://security\nsuites: SUITE-security\ncomponents: main\nSigned-By: /keys/b.gpg\n"
	for _, tt := range []struct{ codename, suite, want, as string }{
		{"bookworm", "", old + updates + security, "bookworm"},
		{"bookworm", "trixie", old + updates + security, "trixie"},
		{"bookworm", "sid", old, "sid"},
	} {
		found, as, err := forSuite(all, tt.codename, tt.suite)
		if got, want := formatSources(found), strings.ReplaceAll(tt.want, "SUITE", tt.as); err != nil || got != want || as != tt.as {
			t.Errorf("%s for %s: got %q\n%s\nwant\n%s\n%v", tt.suite, tt.codename, as, got, want, err)
		}
	}
	if _, _, err := forSuite(all, "jessie", ""); err == nil || !strings.Contains(err.Error(), "no Debian release (jessie)") {
		t.Errorf("got %v", err)
	}
	found, _, err := forSuite(all, "bookworm", "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := formatSources(withoutSecrets(found)), strings.ReplaceAll(strings.Replace(old, "u:pw@", "", 1)+updates+security, "SUITE", "bookworm"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := strings.Join(keyFiles(found), " "); got != "/keys/a.gpg /keys/b.gpg" {
		t.Errorf("got %s", got)
	}
}
