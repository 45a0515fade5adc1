package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"minivmm/internal/testbed/kerneltest"
)

// later returns a store whose clock is ahead, so that images written just now count as settled.
func later(t *testing.T) *Store {
	s := newStore(t)
	s.now = func() time.Time { return time.Now().Add(time.Hour) }
	return s
}

func mustUnpack(t *testing.T, s *Store, path string) string {
	t.Helper()
	vmlinux, err := s.Unpacked(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return vmlinux
}

func TestABootedImageIsUnpackedOnce(t *testing.T) {
	s := later(t)
	path := image(t, mine)
	first := mustUnpack(t, s, path)
	if b, err := os.ReadFile(first); err != nil || string(b) != string(kerneltest.Vmlinux(mine)) {
		t.Fatalf("%s contains %d bytes, %v", first, len(b), err)
	}
	before, err := os.Stat(first)
	if err != nil {
		t.Fatal(err)
	}
	again := mustUnpack(t, s, path)
	after, err := os.Stat(again)
	if err != nil || again != first || !os.SameFile(before, after) {
		t.Errorf("the second start got %s, want %s: %v", again, first, err)
	}
	// The same content in another file is the same kernel.
	if other := mustUnpack(t, s, image(t, mine)); other != first {
		t.Errorf("a copy of the image became %s, want %s", other, first)
	}
	wantWhole(t, s, 1)
	// A changed image is another kernel.
	write(t, path, kerneltest.BzImage(mine+" #2"))
	if changed := mustUnpack(t, s, path); changed == first {
		t.Error("the changed image has the vmlinux of the old one")
	}
	wantWhole(t, s, 2)
	// A user removed the store's folder.
	if err := os.RemoveAll(filepath.Dir(first)); err != nil {
		t.Fatal(err)
	}
	if got := mustUnpack(t, s, image(t, mine)); got != first {
		t.Errorf("got %s after removal, want %s", got, first)
	}
}

func TestABootedImageHasNoName(t *testing.T) {
	s := later(t)
	path := image(t, mine)
	mustUnpack(t, s, path)
	for _, name := range []string{"", mine, "6.12"} {
		if k, err := s.Find(name); err == nil {
			t.Errorf("%q means %+v", name, k)
		}
	}
	k := mustImport(t, s, path, ImportOptions{Name: "own"})
	if found, err := s.Find(mine); err != nil || found.ID != k.ID {
		t.Errorf("after import: %+v, %v", found, err)
	}
	mustUnpack(t, s, image(t, mine))
	if found, err := s.Find("own"); err != nil || found.Source != path {
		t.Errorf("after another start: %+v, %v", found, err)
	}
}

func TestOnlyTheLastBootedImagesAreKept(t *testing.T) {
	s := later(t)
	kept := mustImport(t, s, image(t, "6.12.3-kept"), ImportOptions{})
	for i := range maxUnasked + 3 {
		mustUnpack(t, s, image(t, fmt.Sprintf("6.12.3-%d", i)))
	}
	wantWhole(t, s, maxUnasked+1)
	if _, err := s.Find(kept.ID); err != nil {
		t.Error(err)
	}
}

func TestImagesThatAreNotUnpacked(t *testing.T) {
	s := later(t)
	vmlinux := write(t, filepath.Join(t.TempDir(), "vmlinux"), kerneltest.Vmlinux(mine))
	text := write(t, filepath.Join(t.TempDir(), "text"), []byte("hello\n"))
	for _, path := range []string{vmlinux, text, t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		if got := mustUnpack(t, s, path); got != path {
			t.Errorf("%s became %s", path, got)
		}
	}
	s.now = time.Now
	if _, err := s.Unpacked(t.Context(), image(t, mine)); err == nil || !strings.Contains(err.Error(), "changed within the last 2s") {
		t.Errorf("an image that was written just now: %v", err)
	}
	wantWhole(t, s, 0)
}
