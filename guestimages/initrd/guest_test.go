package initrd

import (
	"os"
	"path/filepath"
	"testing"

	"minivmm/guestimages/cache"
)

// TestKeyIsOfTheContent moves the cache and busybox.
func TestKeyIsOfTheContent(t *testing.T) {
	keyIn := func(busybox string, o Options) string {
		t.Helper()
		c, outside := &cache.Cache{Root: t.TempDir()}, filepath.Join(t.TempDir(), "busybox")
		if err := os.WriteFile(outside, []byte(busybox), 0o755); err != nil {
			t.Fatal(err)
		}
		sum, err := key(c, o, "m", c.Path("init/1"), outside, "")
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	want := keyIn("1", Options{})
	if got := keyIn("1", Options{}); got != want {
		t.Error("the same content at another path has a different key")
	}
	for name, got := range map[string]string{
		"busybox":  keyIn("2", Options{}),
		"hostname": keyIn("1", Options{Hostname: "x"}),
	} {
		if got == want {
			t.Errorf("a different %s has the same key", name)
		}
	}
}
