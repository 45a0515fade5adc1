package boot

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func packedImage(t testing.TB, seed uint64) string {
	e := soundELF()
	e.segments[0].data = noise(3*4096, seed)
	return writeFile(t, testBzImage{payload: pack(t, "zstd", e.bytes())}.bytes())
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func wantSource(t *testing.T, path string, opt Options, want Source) {
	t.Helper()
	k, err := Open(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if k.Info().Source != want {
		t.Errorf("source %q (%v), want %q", k.Info().Source, k.Info().NotCached, want)
	}
	if (k.Info().NotCached != nil) != (want == FromMemory) {
		t.Errorf("source %q with NotCached %v", want, k.Info().NotCached)
	}
	mem := newMemory(t, 64<<20)
	if _, err := k.Load(mem, Params{}); err != nil {
		t.Fatal(err)
	}
	// The last byte of each segment: nothing is missing.
	for _, s := range soundELF().segments[1:] {
		w, _ := mem.Window(k.program.segments[0].gpa, 0x40000)
		if got, want := w[s.gpa-0x1000000+uint64(len(s.data))-1], s.data[len(s.data)-1]; got != want {
			t.Errorf("segment %#x ends in %#x, want %#x", s.gpa, got, want)
		}
	}
}

func TestADamagedEntryIsRebuilt(t *testing.T) {
	path, opt := packedImage(t, 1), cached(t)
	wantSource(t, path, opt, FromUnpacked)
	wantSource(t, path, opt, FromCache)
	list := entries(t, opt.CacheDir)
	if len(list) != 1 {
		t.Fatalf("cache holds %q, want one entry", list)
	}
	entry := list[0]
	whole, err := os.ReadFile(entry)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		b := append([]byte(nil), whole...)
		b[at] ^= 1
		return b
	}
	for name, b := range map[string][]byte{
		"empty":               nil,
		"one page":            whole[:4096],
		"one byte short":      whole[:len(whole)-1],
		"one byte long":       append(append([]byte(nil), whole...), 0),
		"only the trailer":    whole[len(whole)-trailerSize:],
		"zeros":               make([]byte, len(whole)),
		"header damaged":      flip(32),
		"entry point damaged": flip(24),
		"magic damaged":       flip(len(whole) - trailerSize),
		"length damaged":      flip(len(whole) - trailerSize + 8),
		"key damaged":         flip(len(whole) - trailerSize + 16),
		"hash damaged":        flip(len(whole) - 1),
		"another image's":     anotherEntry(t),
		"right but not a ELF": func() []byte { k := keyIn(whole); return append([]byte("x"), trailer(k, 1, []byte("x"))...) }(),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(entry, b, 0o600); err != nil {
				t.Fatal(err)
			}
			wantSource(t, path, opt, FromUnpacked)
			wantSource(t, path, opt, FromCache)
		})
	}
	t.Run("a symbolic link", func(t *testing.T) {
		target := writeFile(t, whole)
		if err := os.Remove(entry); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, entry); err != nil {
			t.Fatal(err)
		}
		wantSource(t, path, opt, FromUnpacked)
		wantSource(t, path, opt, FromCache)
	})
}

func keyIn(entry []byte) (k cacheKey) {
	copy(k[:], entry[len(entry)-trailerSize+16:])
	return k
}

func anotherEntry(t *testing.T) []byte {
	t.Helper()
	opt := cached(t)
	wantSource(t, packedImage(t, 99), opt, FromUnpacked)
	b, err := os.ReadFile(entries(t, opt.CacheDir)[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAChangedImageIsUnpackedAgain(t *testing.T) {
	path, opt := packedImage(t, 1), cached(t)
	wantSource(t, path, opt, FromUnpacked)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	// Same bytes, same inode, mtime put back: only ctime tells.
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	wantSource(t, path, opt, FromUnpacked)
}

func TestAnImageChangedJustNowIsNotCached(t *testing.T) {
	path, opt := packedImage(t, 1), cached(t)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	changed := time.Unix(st.Ctim.Unix())
	opt.now = func() time.Time { return changed.Add(settleTime) }
	wantSource(t, path, opt, FromMemory)
	opt.now = func() time.Time { return changed.Add(settleTime + 1) }
	wantSource(t, path, opt, FromUnpacked)
}

func TestAFolderThatCannotBeUsedMeansUnpackingInMemory(t *testing.T) {
	path := packedImage(t, 1)
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"none":                 "",
		"a file in the way":    filepath.Join(writeFile(t, nil), "cache"),
		"a file":               writeFile(t, nil),
		"writable by everyone": open,
		"not writable":         "/proc/self",
	} {
		t.Run(name, func(t *testing.T) {
			opt := cached(t)
			opt.CacheDir = dir
			wantSource(t, path, opt, FromMemory)
			wantSource(t, path, opt, FromMemory)
		})
	}
	if list := entries(t, open); len(list) != 0 {
		t.Errorf("folder writable by everyone holds %q", list)
	}
}

func TestManyStartsAtOnceShareACache(t *testing.T) {
	path, opt := packedImage(t, 1), cached(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			k, err := Open(path, opt)
			if err != nil {
				t.Error(err)
				return
			}
			defer k.Close()
			if s := k.Info().Source; s != FromUnpacked && s != FromCache {
				t.Errorf("source %q: %v", s, k.Info().NotCached)
			}
		})
	}
	wg.Wait()
	if list := entries(t, opt.CacheDir); len(list) != 1 {
		t.Errorf("cache holds %q, want one entry", list)
	}
	wantSource(t, path, opt, FromCache)
}

func TestOldEntriesAndDeadFilesAreTrimmed(t *testing.T) {
	opt := cached(t)
	c, err := openCache(opt.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	age := func(name string, d time.Duration) string {
		p := filepath.Join(c.dir, name)
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-d)
		if err := os.Chtimes(p, when, when); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var old []string
	for i := range cacheEntries + 2 {
		old = append(old, age(fmt.Sprintf("%d%s", i, cacheSuffix), time.Duration(i+1)*time.Minute))
	}
	dead := age("unpacking-1", 2*cacheTempAge)
	busy := age("unpacking-2", 0)
	foreign := age("README", 1000*time.Hour)
	wantSource(t, packedImage(t, 1), opt, FromUnpacked)
	for p, want := range map[string]bool{
		old[0]: true, old[cacheEntries-2]: true, old[cacheEntries-1]: false, old[cacheEntries+1]: false,
		dead: false, busy: true, foreign: true,
	} {
		if _, err := os.Stat(p); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", filepath.Base(p), err == nil, want)
		}
	}
}
