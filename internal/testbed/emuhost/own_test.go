package emuhost

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"minivmm/internal/testbed/testenv"
)

func TestRootGetsTheBuildersCache(t *testing.T) {
	testenv.Need(t, "root")
	home := t.TempDir()
	cache := filepath.Join(home, ".cache", "mini vmm")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{home, filepath.Dir(cache), cache} {
		if err := os.Chown(dir, 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	argv := chownCache(cache, []string{"sh", "-c", `echo "$@"; exit 7`, "x", "a b", ""})
	out, err := exec.Command(argv[0], argv[1:]...).Output()
	if code := err.(*exec.ExitError).ExitCode(); code != 7 || strings.TrimSpace(string(out)) != "a b" {
		t.Errorf("the command printed %q with exit status %d, want \"a b\" and 7", out, code)
	}
	for _, dir := range []string{home, filepath.Dir(cache), cache} {
		if info, err := os.Stat(dir); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
			t.Errorf("%s does not belong to root: %v, %v", dir, info, err)
		}
	}
}
