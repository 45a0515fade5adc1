package cache

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"minivmm/internal/testbed/testenv"

	"golang.org/x/sys/unix"
)

// TestAnotherUsersCacheIsRefused runs as root with another user's environment, as sudo -E does.
func TestAnotherUsersCacheIsRefused(t *testing.T) {
	testenv.Need(t, "root")
	home := t.TempDir()
	if err := os.Chown(home, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	for _, env := range [][2]string{{Env, home}, {Env, home + "/not/yet"}, {"XDG_CACHE_HOME", home}, {"HOME", home}} {
		t.Run(env[0], func(t *testing.T) {
			t.Setenv(Env, "")
			t.Setenv("XDG_CACHE_HOME", "")
			t.Setenv(env[0], env[1])
			c, err := Open(nil)
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), home+" belongs to user 1234") || !strings.Contains(err.Error(), Env+"=FOLDER") {
				t.Errorf("%v, %v", c, err)
			}
		})
	}
}

func TestCacheIsItsOwnersAlone(t *testing.T) {
	c := &Cache{Root: filepath.Join(t.TempDir(), "new", "cache")}
	if err := c.Write("a/b", "c"); err != nil {
		t.Fatal(err)
	}
	unlock, err := c.Lock(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	for _, dir := range []string{"", "a", "locks"} {
		if info, err := os.Stat(c.Path(dir)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%q: %v, %v; want mode 0700", dir, info.Mode(), err)
		}
	}
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, c.Path("locks/link")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Lock(t.Context(), "link"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a lock that is a link: %v, want ELOOP", err)
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("a lock created a file at the target of a link")
	}
}
