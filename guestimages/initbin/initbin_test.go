package initbin

import (
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// TestEverySourceIsInTheHash checks that the hash covers every package of the program. Otherwise
// the cache could return a program that is older than one of its packages.
func TestEverySourceIsInTheHash(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", Package).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, pkg := range strings.Fields(string(out)) {
		if strings.HasPrefix(pkg, "minivmm/") {
			want = append(want, pkg)
		}
	}
	for _, dir := range sources {
		got = append(got, path.Join("minivmm/guestimages", dir))
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the hash covers %q, the program consists of %q", got, want)
	}
}
