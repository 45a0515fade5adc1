package flock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLocksExcludeEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	a, b, c := open(t, path), open(t, path), open(t, path)
	if err := errors.Join(TryShared(a), TryShared(b)); err != nil {
		t.Fatal(err)
	}
	if err := Try(c); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("exclusive lock while shared locks are held: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Wait(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait with a canceled context: %v", err)
	}
	got := make(chan error, 1)
	go func() { got <- Wait(t.Context(), c) }()
	a.Close()
	b.Close()
	if err := <-got; err != nil {
		t.Errorf("released lock: %v", err)
	}
	if err := TryShared(open(t, path)); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("shared lock while an exclusive lock is held: %v", err)
	}
}
