package workdir

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// dead leaves a work folder behind, as a killed process does.
func dead(t *testing.T, path string) {
	t.Helper()
	if err := errors.Join(os.Mkdir(path, 0o777), os.Chmod(path, 0o777), os.WriteFile(filepath.Join(path, "half"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestClaimTakesOverALeftoverFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".x"+Suffix)
	dead(t, path)
	d, err := Claim(path)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(path); err != nil || len(left) > 0 {
		t.Errorf("the folder contains %v, %v", left, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v: others have access", st.Mode(), err)
	}
	if _, err := Claim(path); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("second claim: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

func TestClaimFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, ".x"+Suffix)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "theirs"), 0o755), os.WriteFile(filepath.Join(dir, "theirs", "file"), nil, 0o644), os.Symlink("theirs", path)); err != nil {
		t.Fatal(err)
	}
	if _, err := Claim(path); err == nil {
		t.Error("Claim followed a link")
	}
	if err := Sweep(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "theirs", "file")); err != nil {
		t.Error(err)
	}
}

// Only root can create a folder of another user; without root the test passes trivially.
func TestFoldersOfOtherUsersAreLeftAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, ".x"+Suffix)
	dead(t, path)
	if err := os.Chown(path, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	if _, err := Claim(path); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if err := Sweep(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(path, "half")); err != nil {
		t.Error(err)
	}
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	alive, err := Temp(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	if err := os.WriteFile(filepath.Join(alive.Path, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	gone, other := filepath.Join(dir, ".gone"+Suffix), filepath.Join(dir, "other"+Suffix)
	dead(t, gone)
	dead(t, other)
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder of a dead process after Sweep: %v", err)
	}
	for _, kept := range []string{filepath.Join(alive.Path, "x"), other} {
		if _, err := os.Stat(kept); err != nil {
			t.Error(err)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 20 {
				err := Sweep(dir)
				d, terr := Temp(dir)
				if err = errors.Join(err, terr); err != nil {
					t.Error(err)
					return
				}
				if err := errors.Join(os.WriteFile(filepath.Join(d.Path, "x"), nil, 0o600), d.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
