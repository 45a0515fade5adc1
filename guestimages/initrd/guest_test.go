package initrd

import (
	"os"
	"path/filepath"
	"testing"

	"minivmm/guestimages/cache"
)

// TestKeyIsOfTheContent moves the cache, busybox, and the source of a file.
func TestKeyIsOfTheContent(t *testing.T) {
	keyIn := func(busybox string, o Options, files ...readFile) string {
		t.Helper()
		c, outside := &cache.Cache{Root: t.TempDir()}, filepath.Join(t.TempDir(), "busybox")
		if err := os.WriteFile(outside, []byte(busybox), 0o755); err != nil {
			t.Fatal(err)
		}
		sum, err := key(c, o, files, "m", c.Path("init/1"), outside, "")
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	file := readFile{"/a", 0o644, []byte("a")}
	want := keyIn("1", Options{Files: []File{{"/tmp/1", "/a"}}}, file)
	if got := keyIn("1", Options{Files: []File{{"/tmp/2", "/a"}}}, file); got != want {
		t.Error("the same content at another path has a different key")
	}
	other := file
	other.data = []byte("b")
	for name, got := range map[string]string{
		"busybox":  keyIn("2", Options{}, file),
		"file":     keyIn("1", Options{}, other),
		"hostname": keyIn("1", Options{Hostname: "x"}, file),
	} {
		if got == want {
			t.Errorf("a different %s has the same key", name)
		}
	}
}
