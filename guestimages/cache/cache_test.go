package cache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestEntryIsMadeOnce(t *testing.T) {
	c := &Cache{Root: t.TempDir()}
	var built atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			path, err := c.Make(t.Context(), "a/b", func(_ context.Context, tmp string) error {
				built.Add(1)
				return os.WriteFile(tmp, []byte("whole"), 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != "whole" {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
	all.Wait()
	if built.Load() != 1 {
		t.Errorf("built %d times", built.Load())
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	c := &Cache{Root: t.TempDir()}
	broken := errors.New("broken")
	_, err := c.Make(t.Context(), "a/b", func(_ context.Context, tmp string) error {
		if err := os.MkdirAll(tmp+"/half", 0o755); err != nil {
			t.Fatal(err)
		}
		return broken
	})
	if !errors.Is(err, broken) || c.Has("a/b") {
		t.Errorf("got %v, present: %v", err, c.Has("a/b"))
	}
	left, err := os.ReadDir(filepath.Join(c.Root, "a"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWaitingForALockEndsWithTheContext(t *testing.T) {
	var log strings.Builder
	c := &Cache{Root: t.TempDir(), Log: &log}
	unlock, err := c.Lock(t.Context(), "x/y")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Lock(ctx, "x/y"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(log.String(), "waiting for another process that is working on x/y") {
		t.Errorf("the log contains %q", log.String())
	}
	unlock()
}

func TestSmallEntriesAreReplacedAndRemoved(t *testing.T) {
	c := &Cache{Root: t.TempDir()}
	for _, want := range []string{"one", "two"} {
		if err := c.Write("a/b", want); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Read("a/b"); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for range 2 {
		if err := c.Remove("a"); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Read("a/b"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestFolderComesFromTheEnvironment(t *testing.T) {
	t.Setenv(Env, "/somewhere/else")
	c, err := Open(nil)
	if err != nil || c.Path("a/b") != "/somewhere/else/a/b" {
		t.Errorf("got %v, %v", c, err)
	}
	t.Setenv(Env, "")
	t.Setenv("XDG_CACHE_HOME", "/home/x/.cache")
	c, err = Open(nil)
	if err != nil || c.Root != "/home/x/.cache/minivmm" {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestUnwritableCacheNamesTheRemedy(t *testing.T) {
	c := &Cache{Root: "/sys/minivmm"} // where not even root can create a folder
	_, err := c.Make(t.Context(), "a", func(context.Context, string) error { return nil })
	if err == nil || !strings.Contains(err.Error(), Env+"=FOLDER") {
		t.Error(err)
	}
}
