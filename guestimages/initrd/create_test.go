package initrd

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"minivmm/internal/workdir"
)

// names lists the files in a folder.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestCreateIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "out")
	want := func(content string, all ...string) {
		t.Helper()
		if got := names(t, dir); !slices.Equal(got, all) {
			t.Errorf("the folder contains %q, want %q", got, all)
		}
		if b, err := os.ReadFile(file); content != "" && (err != nil || string(b) != content) {
			t.Errorf("the file contains %q, %v, want %q", b, err, content)
		}
	}
	say := func(s string, err error) func(io.Writer) error {
		return func(w io.Writer) error {
			if len(names(t, dir)) == 0 {
				t.Error("the folder is empty during the write")
			}
			_, werr := io.WriteString(w, s)
			return errors.Join(werr, err)
		}
	}
	broken := errors.New("broken")
	if err := Create(t.Context(), file, say("half", broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	want("")
	if err := Create(t.Context(), file, say("one", nil)); err != nil {
		t.Fatal(err)
	}
	want("one", "out")
	if err := Create(t.Context(), file, say("half", broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	want("one", "out")
	ctx, cancel := context.WithCancelCause(t.Context())
	if err := Create(ctx, file, func(w io.Writer) error {
		cancel(broken)
		_, err := io.WriteString(w, "half")
		return err
	}); !errors.Is(err, broken) {
		t.Errorf("canceled before a write: %v", err)
	}
	if err := Create(ctx, file, func(w io.Writer) error { return nil }); !errors.Is(err, broken) {
		t.Errorf("canceled before the end: %v", err)
	}
	want("one", "out")
	if err := os.Symlink("out", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), filepath.Join(dir, "link"), say("through the link", nil)); err != nil {
		t.Fatal(err)
	}
	want("through the link", "link", "out")
	// The next run removes what a killed run left behind.
	dead := filepath.Join(dir, ".dead"+workdir.Suffix, "file")
	if err := errors.Join(os.Mkdir(filepath.Dir(dead), 0o700), os.WriteFile(dead, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Create(t.Context(), file, say("one", nil)); err != nil {
		t.Fatal(err)
	}
	want("one", "link", "out")
	for _, there := range []string{dir, "/dev/null"} {
		if err := Create(t.Context(), there, say("", nil)); err == nil {
			t.Errorf("%s was replaced", there)
		}
	}
	if err := Create(t.Context(), filepath.Join(dir, "none", "out"), say("", nil)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing folder: %v", err)
	}
	want("one", "link", "out")
}
