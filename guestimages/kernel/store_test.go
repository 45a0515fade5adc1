package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/kerneltest"
	"minivmm/internal/workdir"
)

const mine = "6.12.3-mine"

func newStore(t testing.TB) *Store {
	t.Helper()
	return Open(&cache.Cache{Root: t.TempDir()})
}

func write(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// image writes a bzImage of that version.
func image(t testing.TB, version string) string {
	return write(t, filepath.Join(t.TempDir(), "bzImage"), kerneltest.BzImage(version))
}

func mustImport(t testing.TB, s *Store, path string, o ImportOptions) Kernel {
	t.Helper()
	k, err := s.Import(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// wantWhole checks that the store contains n kernels and nothing incomplete.
func wantWhole(t testing.TB, s *Store, n int) {
	t.Helper()
	all, err := s.List()
	if err != nil || len(all) != n {
		t.Errorf("%d kernels, %v, want %d", len(all), err, n)
	}
	for dir, want := range map[string]int{"making": 0, folder: n} {
		list, err := os.ReadDir(s.cache.Path(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		got := 0
		for _, e := range list {
			if e.IsDir() {
				got++
			}
		}
		if got != want {
			t.Errorf("%s contains %d folders, want %d: %v", dir, got, want, list)
		}
	}
}

func TestImportedKernelIsFound(t *testing.T) {
	s := newStore(t)
	path := image(t, mine+" (me@here) #1 SMP")
	k := mustImport(t, s, path, ImportOptions{Name: "own", Default: true})
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%x", sha256.Sum256(b))
	want := Kernel{
		ID: id, Release: mine, Name: "own", Source: path, Default: true, SizeBytes: k.SizeBytes,
		Image: s.cache.Path("kernels/" + id + "/vmlinuz"), Vmlinux: s.cache.Path("kernels/" + id + "/vmlinux"),
	}
	if k != want || k.SizeBytes < int64(len(b)) {
		t.Errorf("got  %+v\nwant %+v", k, want)
	}
	if got, err := os.ReadFile(k.Image); err != nil || !bytes.Equal(got, b) {
		t.Errorf("the image is %d bytes, %v, want the %d imported", len(got), err, len(b))
	}
	if got, err := os.ReadFile(k.Vmlinux); err != nil || !bytes.Equal(got, kerneltest.Vmlinux(mine+" (me@here) #1 SMP")) {
		t.Errorf("the vmlinux is %d bytes, %v", len(got), err)
	}
	for _, name := range []string{"", "own", mine, id, id[:minID]} {
		if got, err := s.Find(name); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"x", id[:minID-1], "6.12", "6.1", strings.ToUpper(id), "6.12.3", "../" + id} {
		if got, err := s.Find(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: got %+v, %v", name, got, err)
		}
	}
	if _, err := k.OpenModules(); err == nil {
		t.Error("a kernel without modules returned modules")
	}
	wantWhole(t, s, 1)
}

func TestTheHintFitsTheName(t *testing.T) {
	for name, want := range map[string]string{
		"":     "minivmm kernel fetch",
		"6.12": "minivmm kernel fetch 6.12",
		"own":  "minivmm kernel list",
	} {
		if _, err := newStore(t).Find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

func TestARepeatedImportAddsNoKernel(t *testing.T) {
	s := newStore(t)
	path := image(t, mine)
	first := mustImport(t, s, path, ImportOptions{Name: "one"})
	again := mustImport(t, s, path, ImportOptions{})
	if again != first {
		t.Errorf("got %+v, want %+v", again, first)
	}
	if k := mustImport(t, s, path, ImportOptions{Name: "two"}); k.ID != first.ID || k.Name != "two" {
		t.Errorf("got %+v", k)
	}
	wantWhole(t, s, 1)
	other := mustImport(t, s, image(t, mine+" #2"), ImportOptions{Name: "two"})
	if k, err := s.Find("two"); err != nil || k.ID != other.ID {
		t.Errorf("the name did not move: %+v, %v", k, err)
	}
	if k, err := s.Find(first.ID); err != nil || k.Name != "" {
		t.Errorf("two kernels have the name: %+v, %v", k, err)
	}
	if k, err := s.Find(mine); err != nil || k.ID != other.ID {
		t.Errorf("want the kernel of the release that was added last: %+v, %v", k, err)
	}
	wantWhole(t, s, 2)
}

func TestManyImportsAtOnce(t *testing.T) {
	s := newStore(t)
	paths := []string{image(t, mine), image(t, mine+" #2")}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if _, err := s.Import(t.Context(), paths[i%2], ImportOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantWhole(t, s, 2)
}

func TestVmlinuxIsKeptOnce(t *testing.T) {
	s := newStore(t)
	k := mustImport(t, s, write(t, filepath.Join(t.TempDir(), "vmlinux"), kerneltest.Vmlinux(mine)), ImportOptions{})
	if k.Image != k.Vmlinux || k.Release != mine {
		t.Errorf("got %+v", k)
	}
	if list, err := os.ReadDir(filepath.Dir(k.Image)); err != nil || len(list) != 1 {
		t.Errorf("the folder contains %v, %v", list, err)
	}
}

func TestImagesThatAreNotGoodAreRefused(t *testing.T) {
	elf := func(machine byte) []byte { b := kerneltest.Vmlinux(mine); b[18] = machine; return b }
	good := kerneltest.BzImage(mine)
	changed := func(at int, to byte) []byte { b := bytes.Clone(good); b[at] = to; return b }
	dir := t.TempDir()
	for name, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":          {nil, "an empty file"},
		"text":           {[]byte("kernel\n"), "a text file"},
		"arm64 Image":    {append(make([]byte, 0x38), "ARM\x64"...), "an arm64 Linux Image"},
		"RISC-V Image":   {append(make([]byte, 0x38), "RSC\x05"...), "a RISC-V Linux Image"},
		"arm64 vmlinux":  {elf(183), "aarch64"},
		"i386 vmlinux":   {func() []byte { b := elf(3); b[4] = 1; return b }(), "i386"},
		"RISC-V vmlinux": {elf(243), "RISC-V"},
		"i386 bzImage":   {changed(0x236, 0), "a 32-bit kernel"},
		"cut":            {good[:len(good)-16], "truncated"},
		"last byte cut":  {good[:len(good)-1], "checksum"}, // the last paragraph may be short
		"cut short":      {good[:0x210], "setup header"},
		"payload":        {changed(3*512+0x240+20, good[3*512+0x240+20]+1), "gzip"},
		"real-mode code": {changed(0x100, 1), "checksum is wrong"},
		"a .deb":         {[]byte("!<arch>\ndebian-binary"), "an ar archive (a .deb package?)"},
		"release":        {kerneltest.BzImage("../../x"), `reports release "../../x"`},
		"an option":      {kerneltest.BzImage("-C"), `reports release "-C"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			path := write(t, filepath.Join(dir, name), tt.b)
			_, err := s.Import(t.Context(), path, ImportOptions{})
			var input *InputError
			if !errors.As(err, &input) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), s.cache.Root) {
				t.Errorf("got %v, want the path and %q", err, tt.want)
			}
			wantWhole(t, s, 0)
		})
	}
	s := newStore(t)
	for _, path := range []string{dir, filepath.Join(dir, "absent"), "/dev/zero"} {
		var input *InputError
		if _, err := s.Import(t.Context(), path, ImportOptions{}); !errors.As(err, &input) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	wantWhole(t, s, 0)
}

func TestNamesThatMayMeanSomethingElseAreRefused(t *testing.T) {
	s := newStore(t)
	path := image(t, mine)
	for _, name := range []string{"6.12", "abcdef", "-x", "a/b", "a b", "linux-image-x", strings.Repeat("x", 65)} {
		var input *InputError
		if _, err := s.Import(t.Context(), path, ImportOptions{Name: name}); !errors.As(err, &input) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	wantWhole(t, s, 0)
}

// fetched marks an imported kernel as one from a package.
func fetched(t *testing.T, s *Store, k Kernel) {
	t.Helper()
	if err := s.change(t.Context(), func(x *index) error {
		for i := range x.Kernels {
			if x.Kernels[i].ID == k.ID {
				x.Kernels[i].Package = imagePackage + k.Release
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestSeriesIsTheNewestOfItsFlavour(t *testing.T) {
	s := newStore(t)
	for _, version := range []string{
		"6.1.0-9-cloud-amd64", "6.1.0-50-cloud-amd64", "6.1.0-50-rt-amd64", "6.1.0-60-amd64",
		"6.12.9+deb12-cloud-amd64", "6.12.10+deb12-cloud-amd64", "6.12.9-1-cloud-amd64",
	} {
		fetched(t, s, mustImport(t, s, image(t, version+" (debian)"), ImportOptions{}))
	}
	// A user's own kernel has a release like Debian's if it is Debian's kernel, reconfigured.
	mustImport(t, s, image(t, "6.12.99+deb12-cloud-amd64 (mine)"), ImportOptions{Name: "mine"})
	mustImport(t, s, image(t, "6.13.1-cloud-amd64 (mine)"), ImportOptions{})
	for name, want := range map[string]string{
		"6.1": "6.1.0-50-cloud-amd64", "6.1-cloud": "6.1.0-50-cloud-amd64", "6.1-amd64": "6.1.0-60-amd64",
		"linux-image-6.1-cloud-amd64": "6.1.0-50-cloud-amd64", "6.12": "6.12.10+deb12-cloud-amd64", "6.1.0-9-cloud-amd64": "6.1.0-9-cloud-amd64",
		"6.12-amd64": "", "6": "", "6.13": "", "": "", "mine": "6.12.99+deb12-cloud-amd64", "6.13.1-cloud-amd64": "6.13.1-cloud-amd64",
	} {
		if k, err := s.Find(name); k.Release != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %q, %v, want %q", name, k.Release, err, want)
		}
	}
	if err := s.SetDefault(t.Context(), "6.1"); err != nil {
		t.Fatal(err)
	}
	if k, err := s.Find(""); err != nil || k.Release != "6.1.0-50-cloud-amd64" {
		t.Errorf("default: got %+v, %v", k, err)
	}
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	first := mustImport(t, s, image(t, mine+" #1"), ImportOptions{Default: true})
	second := mustImport(t, s, image(t, mine+" #2"), ImportOptions{})
	var ambiguous *InputError
	if _, err := s.Remove(t.Context(), mine); !errors.As(err, &ambiguous) || !strings.Contains(err.Error(), first.ID[:shownID]+", "+second.ID[:shownID]) {
		t.Errorf("a release of two kernels: %v", err)
	}
	if _, err := s.Remove(t.Context(), "nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	running, err := os.Open(first.Vmlinux)
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	if k, err := s.Remove(t.Context(), first.ID[:minID]); err != nil || k.ID != first.ID {
		t.Errorf("got %+v, %v", k, err)
	}
	if info, err := running.Stat(); err != nil || info.Size() == 0 {
		t.Errorf("a running guest lost its kernel: %v", err)
	}
	if _, err := s.Find(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the default that was removed: %v", err)
	}
	if k, err := s.Find(mine); err != nil || k != second {
		t.Errorf("got %+v, %v", k, err)
	}
	wantWhole(t, s, 1)
}

func TestAnAmbiguousIDIsRefused(t *testing.T) {
	x := &index{Kernels: []record{{ID: "abcdef" + strings.Repeat("0", 58)}, {ID: "abcdef" + strings.Repeat("1", 58)}}}
	var ambiguous *InputError
	if _, err := x.find("abcdef"); !errors.As(err, &ambiguous) {
		t.Errorf("got %v", err)
	}
	if found, err := x.find("abcdef0"); err != nil || len(found) != 1 {
		t.Errorf("got %v, %v", found, err)
	}
}

func TestWhatADeadMakerLeftIsRemoved(t *testing.T) {
	s := newStore(t)
	// One process died after it had moved the kernel to its place and before it wrote the
	// index; another while it copied.
	write(t, s.path(strings.Repeat("a", wholeID))+"/vmlinuz", nil)
	write(t, s.path(strings.Repeat("b", wholeID))+removedSuffix+"/vmlinuz", nil)
	write(t, s.cache.Path("making/.123"+workdir.Suffix+"/entry/vmlinuz"), nil)
	mustImport(t, s, image(t, mine), ImportOptions{})
	wantWhole(t, s, 1)
}

func TestAKernelRemovedByHandIsNotHere(t *testing.T) {
	s := newStore(t)
	path := image(t, mine)
	k := mustImport(t, s, path, ImportOptions{Default: true})
	if err := os.RemoveAll(filepath.Dir(k.Image)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find(""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	wantWhole(t, s, 0)
	if again := mustImport(t, s, path, ImportOptions{}); again.ID != k.ID {
		t.Errorf("got %+v", again)
	}
	wantWhole(t, s, 1)
}

func TestADamagedIndexIsNamed(t *testing.T) {
	s := newStore(t)
	path := write(t, s.cache.Path(indexName), []byte("{"))
	if _, err := s.Find(""); err == nil || !strings.Contains(err.Error(), path) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestAnImportThatIsInterruptedLeavesNothing(t *testing.T) {
	s := newStore(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Import(ctx, image(t, mine), ImportOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantWhole(t, s, 0)
}

func TestOthersMayNotWrite(t *testing.T) {
	s := newStore(t)
	dir := t.TempDir()
	mods := filepath.Join(dir, "mods")
	write(t, mods+"/kernel/a.ko", kerneltest.Module("vermagic="+mine))
	write(t, mods+"/modules.dep", []byte("kernel/a.ko:\n"))
	path := image(t, mine)
	for _, p := range []string{path, mods, mods + "/kernel", mods + "/kernel/a.ko"} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	mustImport(t, s, path, ImportOptions{Modules: mods})
	wantOthersNotToWrite(t, s)
}

func wantOthersNotToWrite(t testing.TB, s *Store) {
	t.Helper()
	err := filepath.WalkDir(s.cache.Path(folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
