package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"minivmm/guestimages/cache"
	"minivmm/guestimages/debian"
	"minivmm/internal/testbed/kerneltest"
	"minivmm/internal/testbed/testenv"
)

// repository is a folder with Debian packages, which apt reads as a trivial archive
// (sources.list(5)).
type repository struct {
	t        *testing.T
	dir, etc string
	packages string // the content of the file Packages
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	testenv.Need(t, "debian")
	r := &repository{t: t, dir: t.TempDir(), etc: t.TempDir()}
	write(t, filepath.Join(r.etc, "sources.list"), []byte("deb [trusted=yes] file:"+r.dir+" ./\n"))
	write(t, filepath.Join(r.dir, "Sources"), nil)
	r.publish()
	return r
}

func (r *repository) publish() { write(r.t, filepath.Join(r.dir, "Packages"), []byte(r.packages)) }

// add adds a package with these files and fields of the control file.
func (r *repository) add(name, version, fields string, files map[string][]byte) (deb string) {
	r.t.Helper()
	root := r.t.TempDir()
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\nDescription: a test\n%s", name, version, fields)
	write(r.t, filepath.Join(root, "DEBIAN/control"), []byte(control))
	for path, b := range files {
		// The permissions are ones that no package should have.
		if err := os.Chmod(write(r.t, filepath.Join(root, path), b), 0o666); err != nil {
			r.t.Fatal(err)
		}
	}
	deb = filepath.Join(r.dir, fmt.Sprintf("%s_%s_amd64.deb", name, version))
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "-Znone", "--build", root, deb).CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	r.list(control, deb)
	return deb
}

// list adds a file to the list of packages.
func (r *repository) list(control, deb string) {
	b, err := os.ReadFile(deb)
	if err != nil {
		r.t.Fatal(err)
	}
	r.packages += fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %x\n\n", control, filepath.Base(deb), len(b), sha256.Sum256(b))
	r.publish()
}

// kernel adds a kernel package.
func (r *repository) kernel(release, version string) (deb string) {
	return r.add("linux-image-"+release, version, "", map[string][]byte{
		"boot/vmlinuz-" + release:                          kerneltest.BzImage(release + " (debian) #1"),
		"boot/System.map-" + release:                       []byte("map"),
		"lib/modules/" + release + "/kernel/a.ko":          kerneltest.Module("vermagic="+release+" SMP", "depends="),
		"lib/modules/" + release + "/modules.order":        []byte("kernel/a.ko\n"),
		"lib/modules/" + release + "/modules.builtin":      nil,
		"usr/share/doc/linux-image-" + release + "/README": []byte("doc"),
	})
}

func (r *repository) meta(name, version, release string) {
	r.add(name, version, "Depends: linux-image-"+release+" (= "+version+"), kmod\n", nil)
}

// store returns a new store that fetches from r, and its log.
func (r *repository) store() (s *Store, log *bytes.Buffer) {
	log = &bytes.Buffer{}
	return OpenWith(debian.NewAt(&cache.Cache{Root: r.t.TempDir(), Log: log}, r.etc)), log
}

const (
	oldCloud, newCloud = "6.1.0-50-cloud-amd64", "6.12.9+deb12-cloud-amd64"
	newer              = "6.12.10+deb12-cloud-amd64"
)

// debianLike has the kernels of a Debian release: the release's own, and a newer series.
func debianLike(t *testing.T) *repository {
	r := newRepository(t)
	r.kernel(oldCloud, "6.1.170-3")
	r.kernel("6.1.0-50-amd64", "6.1.170-3")
	r.kernel(newCloud, "6.12.9-1~deb12u1")
	r.meta("linux-image-cloud-amd64", "6.1.170-3", oldCloud)
	r.meta("linux-image-amd64", "6.1.170-3", "6.1.0-50-amd64")
	r.meta("linux-image-6.12-cloud-amd64", "6.12.9-1~deb12u1", newCloud)
	return r
}

func TestFetchFindsWhatANameMeans(t *testing.T) {
	r := debianLike(t)
	s, _ := r.store()
	for _, tt := range []struct{ name, want string }{
		{"", newCloud}, {"6.12", newCloud}, {"6.1", oldCloud}, {"6.1-cloud", oldCloud}, {"6.1-amd64", "6.1.0-50-amd64"},
		{oldCloud, oldCloud}, {"linux-image-" + newCloud, newCloud}, {"linux-image-cloud-amd64", oldCloud}, {"linux-image-6.12-cloud-amd64", newCloud},
	} {
		k, err := s.Fetch(t.Context(), tt.name)
		if err != nil {
			t.Fatalf("%q: %v", tt.name, err)
		}
		if k.Release != tt.want || !strings.HasPrefix(k.Source, "linux-image-"+tt.want+" 6.") || k.Default != (tt.want == newCloud) {
			t.Errorf("%q: got %+v, want %s", tt.name, k, tt.want)
		}
		if tree, err := k.OpenModules(); err != nil || !tree.Has("a") {
			t.Errorf("%q: %v", tt.name, err)
		}
	}
	for _, name := range []string{"6.13", "6.12-amd64", "6.9.1-cloud-amd64", "linux-image-6.13-cloud-amd64"} {
		if _, err := s.Fetch(t.Context(), name); !errors.Is(err, debian.ErrNotOffered) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	for _, name := range []string{"../x", "-o", "own", "linux-image-a b"} {
		if k, err := s.Fetch(t.Context(), name); err == nil {
			t.Errorf("%q: got %+v", name, k)
		}
	}
	wantWhole(t, s, 3)
	wantOthersNotToWrite(t, s)
}

func TestAKernelIsFetchedOnce(t *testing.T) {
	r := debianLike(t)
	s, log := r.store()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if k, err := s.Fetch(t.Context(), ""); err != nil || !k.Default {
				t.Errorf("%+v, %v", k, err)
			}
		})
	}
	all.Wait()
	if n := strings.Count(log.String(), "fetching linux-image-"+newCloud+" "); n != 1 {
		t.Errorf("fetched %d times:\n%s", n, log)
	}
	// The lookup uses another name, and works without apt, package lists or answers.
	if err := errors.Join(s.cache.Remove("answers"), s.cache.Remove("apt")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "")
	log.Reset()
	for _, name := range []string{"", "6.12", newCloud} {
		if _, err := s.Fetch(t.Context(), name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("the log contains %q", log)
	}
	if _, err := s.Fetch(t.Context(), "6.1"); !errors.Is(err, debian.ErrNoApt) {
		t.Errorf("without apt: %v", err)
	}
	wantWhole(t, s, 1)
}

func TestRefreshFetchesWhatIsNewer(t *testing.T) {
	r := debianLike(t)
	s, _ := r.store()
	for _, name := range []string{"", "6.12"} {
		if k, err := s.Refresh(t.Context(), name); err != nil || k.Release != newCloud {
			t.Fatalf("%q: got %+v, %v", name, k, err)
		}
	}
	r.kernel(newer, "6.12.10-1~deb12u1")
	r.meta("linux-image-6.12-cloud-amd64", "6.12.10-1~deb12u1", newer)
	if k, err := s.Fetch(t.Context(), "6.12"); err != nil || k.Release != newCloud {
		t.Errorf("fetch queried the archive again: %+v, %v", k, err)
	}
	if k, err := s.Refresh(t.Context(), ""); err != nil || k.Release != newer || !k.Default {
		t.Errorf("got %+v, %v", k, err)
	}
	if k, err := s.Find(newCloud); err != nil || k.Default {
		t.Errorf("the older one: %+v, %v", k, err)
	}
	// The release's own kernel becomes the newest.
	const next = "6.16.3+deb14-cloud-amd64"
	r.kernel(next, "6.16.3-1")
	r.meta("linux-image-cloud-amd64", "6.16.3-1", next)
	if k, err := s.Refresh(t.Context(), ""); err != nil || k.Release != next || !k.Default {
		t.Errorf("got %+v, %v", k, err)
	}
	wantWhole(t, s, 3)
}

func TestReplacedPackageIsLookedUpAgain(t *testing.T) {
	r := debianLike(t)
	s, _ := r.store()
	if p, err := s.resolve(t.Context(), "6.12"); err != nil || p.name != "linux-image-"+newCloud {
		t.Fatalf("got %+v, %v", p, err)
	}
	if err := os.Remove(filepath.Join(r.dir, "linux-image-"+newCloud+"_6.12.9-1~deb12u1_amd64.deb")); err != nil {
		t.Fatal(err)
	}
	r.kernel(newer, "6.12.10-1~deb12u1")
	r.meta("linux-image-6.12-cloud-amd64", "6.12.10-1~deb12u1", newer)
	if k, err := s.Fetch(t.Context(), "6.12"); err != nil || k.Release != newer {
		t.Errorf("got %+v, %v", k, err)
	}
	wantWhole(t, s, 1)
}

func TestBrokenPackagesAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(r *repository)
		want  string
	}{
		{"not what was announced", func(r *repository) {
			deb := r.kernel(newer, "6.12.10-1")
			b, err := os.ReadFile(deb)
			if err != nil {
				t.Fatal(err)
			}
			b[len(b)/2]++
			write(r.t, deb, b)
		}, "Hash Sum mismatch"},
		{"cut", func(r *repository) {
			deb := r.kernel(newer, "6.12.10-1")
			if err := os.Truncate(deb, 5000); err != nil {
				t.Fatal(err)
			}
		}, "linux-image-" + newer},
		{"no package at all", func(r *repository) {
			deb := write(r.t, filepath.Join(r.dir, "x.deb"), []byte("not a package\n"))
			r.list("Package: linux-image-"+newer+"\nVersion: 6.12.10-1\nArchitecture: amd64\n", deb)
		}, "dpkg-deb"},
		{"gone", func(r *repository) {
			if err := os.Remove(r.kernel(newer, "6.12.10-1")); err != nil {
				t.Fatal(err)
			}
		}, "may have been replaced in the archive"},
		{"without an image", func(r *repository) {
			r.add("linux-image-"+newer, "6.12.10-1", "", map[string][]byte{"lib/modules/" + newer + "/a.ko": kerneltest.Module()})
		}, "contains 0 images"},
		{"without modules", func(r *repository) {
			r.add("linux-image-"+newer, "6.12.10-1", "", map[string][]byte{"boot/vmlinuz-" + newer: kerneltest.BzImage(newer)})
		}, "contains no modules"},
		{"another kernel inside", func(r *repository) {
			r.add("linux-image-"+newer, "6.12.10-1", "", map[string][]byte{"boot/vmlinuz-" + newer: kerneltest.BzImage("6.1.0")})
		}, `reports release "6.1.0"`},
		{"a damaged image", func(r *repository) {
			b := kerneltest.BzImage(newer)
			b[0x100]++
			r.add("linux-image-"+newer, "6.12.10-1", "", map[string][]byte{"boot/vmlinuz-" + newer: b})
		}, "checksum is wrong"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRepository(t)
			tt.spoil(r)
			s, _ := r.store()
			if k, err := s.Fetch(t.Context(), newer); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v, want %q", k, err, tt.want)
			}
			wantWhole(t, s, 0)
		})
	}
}

func TestAFetchThatIsInterruptedLeavesNothing(t *testing.T) {
	r := debianLike(t)
	s, _ := r.store()
	ctx, cancel := context.WithCancel(t.Context())
	s.cache.Log = writerFunc(func(b []byte) (int, error) {
		if strings.Contains(string(b), "unpacking and checking") {
			cancel()
		}
		return len(b), nil
	})
	if _, err := s.Fetch(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantWhole(t, s, 0)
	if _, err := s.Fetch(t.Context(), ""); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestHostsAndUsersShareAKernel(t *testing.T) {
	r := debianLike(t)
	s, log := r.store()
	k, err := Get(t.Context(), s.archive, "6.1-cloud")
	if err != nil || k.Release != oldCloud || k.Default {
		t.Fatalf("got %+v, %v", k, err)
	}
	log.Reset()
	if same, err := s.Fetch(t.Context(), "6.1"); err != nil || same != k || log.Len() > 0 {
		t.Errorf("got %+v, %v; the log contains %q", same, err, log)
	}
	// After a new query, the host uses the archive's current kernel.
	r.kernel("6.1.0-51-cloud-amd64", "6.1.180-1")
	r.meta("linux-image-cloud-amd64", "6.1.180-1", "6.1.0-51-cloud-amd64")
	if err := s.archive.Forget(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k, err := Get(t.Context(), s.archive, "6.1-cloud"); err != nil || k.Release != "6.1.0-51-cloud-amd64" {
		t.Errorf("got %+v, %v", k, err)
	}
}
