package oci

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"minivmm/guestimages/cache"
)

// counted is a registry that counts its requests.
type counted struct {
	host  string
	asked atomic.Int32
	stop  func()
}

func countedServer(t testing.TB) *counted {
	t.Helper()
	s := &counted{}
	h := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(listener.Close)
	s.host, s.stop = strings.TrimPrefix(listener.URL, "http://"), listener.Close
	return s
}

// since returns the number of requests since its last call.
func (s *counted) since() int32 { return s.asked.Swap(0) }

// lines is a log that is safe for concurrent use.
type lines struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func small(t testing.TB, content string) v1.Image {
	return imageOf(t, "", v1.Config{Cmd: []string{content}}, layerOf(t, tarOf(t, regular("file", content, 0o644)), compression.GZip))
}

func TestPullPolicies(t *testing.T) {
	noCredentials(t)
	one, two := small(t, "one"), small(t, "two")
	s := countedServer(t)
	c := &cache.Cache{Root: t.TempDir()}
	image := s.host + "/app:latest"
	var text lines
	c.Log = &text
	build := func(image string, policy Policy, want string, asks bool) {
		t.Helper()
		s.since()
		d, err := Build(t.Context(), c, image, Options{Pull: policy})
		if err != nil {
			t.Fatal(err)
		}
		if d.Command.Argv[0] != want || (s.since() > 0) != asks {
			t.Errorf("pull %q: got %q, registry asked: %v; want %q, %v", policy, d.Command.Argv, !asks, want, asks)
		}
		if info, err := os.Stat(d.Path); err != nil || info.Mode() != 0o400 {
			t.Errorf("the disk is %v, %v", info, err)
		}
	}
	if _, err := Build(t.Context(), c, image, Options{Pull: PullNever}); !errors.As(err, &InvalidError{}) || s.since() > 0 {
		t.Errorf("got %v", err)
	}
	push(t, image, one)
	build(image, "", "one", true)
	build(image, "", "one", false)
	push(t, image, two)
	build(image, PullMissing, "one", false)
	build(image, PullNever, "one", false)
	build(image, PullAlways, "two", true)
	build(image, PullMissing, "two", false)
	// The image that the tag referred to earlier, by digest: cached under every policy.
	digest := s.host + "/app@" + must[v1.Hash](t)(one.Digest()).String()
	build(digest, PullAlways, "one", false)
	if got := text.take(); strings.Count(got, "creating the disk") != 2 || !strings.Contains(got, "layer 1 of 1: sha256:") {
		t.Errorf("the log is\n%s", got)
	}

	if err := c.Remove(strings.TrimSuffix(disks, "/")); err != nil {
		t.Fatal(err)
	}
	build(image, PullMissing, "two", true)
	text.take()

	s.stop()
	build(image, PullMissing, "two", false)
	build(image, PullAlways, "two", false)
	if got := text.take(); !strings.Contains(got, "does not respond") {
		t.Errorf("the log is\n%s", got)
	}
	if _, err := Build(t.Context(), c, s.host+"/other", Options{}); err == nil {
		t.Error("an image from a stopped registry was built")
	}
}

func TestImageRemovedFromTheRegistry(t *testing.T) {
	noCredentials(t)
	c := &cache.Cache{Root: t.TempDir()}
	var gone atomic.Bool
	h := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gone.Load() && strings.Contains(r.URL.Path, "/manifests/") {
			http.NotFound(w, r)
			return
		}
		h.ServeHTTP(w, r)
	}))
	defer s.Close()
	image := strings.TrimPrefix(s.URL, "http://") + "/app"
	push(t, image, small(t, "one"))
	must[*Disk](t)(Build(t.Context(), c, image, Options{}))
	gone.Store(true)
	if _, err := Build(t.Context(), c, image, Options{Pull: PullAlways}); !errors.As(err, &InvalidError{}) {
		t.Errorf("got %v", err)
	}
}

func TestArchiveIsReadOnce(t *testing.T) {
	c := &cache.Cache{Root: t.TempDir()}
	large := imageOf(t, "", v1.Config{Cmd: []string{"large"}}, layerOf(t, tarOf(t, regular("x", string(noise(4<<20)), 0o644)), compression.GZip))
	path := gzipped(t, savedOf(t, map[string]v1.Image{"x.test/y:z": large}))
	first := must[*Disk](t)(Build(t.Context(), c, path, Options{}))
	before := bytesRead(t)
	second := must[*Disk](t)(Build(t.Context(), c, path, Options{}))
	if n := bytesRead(t) - before; n > 64<<10 {
		t.Errorf("%d bytes were read for a cached image", n)
	}
	if first.Path != second.Path || first.ID != second.ID || fmt.Sprint(first) != fmt.Sprint(second) {
		t.Errorf("got %v, then %v", first, second)
	}
	// Another image with the same path, size and modification time.
	info := must[os.FileInfo](t)(os.Stat(path))
	other := must[[]byte](t)(os.ReadFile(savedOf(t, map[string]v1.Image{"x.test/y:z": small(t, "other")})))
	if err := os.WriteFile(path, append(other, make([]byte, int(info.Size())-len(other))...), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if third := must[*Disk](t)(Build(t.Context(), c, path, Options{})); third.Command.Argv[0] != "other" {
		t.Errorf("got %v", third)
	}
}

// bytesRead returns the number of bytes that this process has read with system calls
// (proc_pid_io(5)).
func bytesRead(t testing.TB) (n int64) {
	t.Helper()
	b := must[[]byte](t)(os.ReadFile("/proc/self/io"))
	if _, err := fmt.Sscanf(string(b), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLayoutIsReadEachTimeAndUnpackedOnce(t *testing.T) {
	c := &cache.Cache{Root: t.TempDir()}
	var text lines
	c.Log = &text
	dir := layoutOf(t, named{what: small(t, "one")})
	for range 2 {
		must[*Disk](t)(Build(t.Context(), c, dir, Options{}))
	}
	if got := text.take(); strings.Count(got, "creating the disk") != 1 {
		t.Errorf("the log is\n%s", got)
	}
	other := layoutOf(t, named{what: small(t, "two")})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, dir); err != nil {
		t.Fatal(err)
	}
	if d := must[*Disk](t)(Build(t.Context(), c, dir, Options{})); d.Command.Argv[0] != "two" {
		t.Errorf("got %v", d)
	}
}

func TestConcurrentBuildsCreateOneDisk(t *testing.T) {
	noCredentials(t)
	im := richImage(t)
	host := server(t, nil)
	push(t, host+"/app", im)
	layout := layoutOf(t, named{what: im})
	saved := savedOf(t, map[string]v1.Image{"x.test/y:z": im})
	c := &cache.Cache{Root: t.TempDir()}
	var text lines
	c.Log = &text
	var all sync.WaitGroup
	for i := range 6 {
		image := []string{host + "/app", layout, saved}[i%3]
		all.Go(func() {
			if _, err := Build(t.Context(), c, image, Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := text.take(); strings.Count(got, "creating the disk") != 1 {
		t.Errorf("the log is\n%s", got)
	}
}
