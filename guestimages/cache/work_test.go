package cache

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"minivmm/internal/workdir"
)

// die is the environment variable that turns this binary into a process that dies while it works in
// the folder that the variable names.
const die = "CACHE_TEST_DIE"

func TestMain(m *testing.M) {
	if root := os.Getenv(die); root != "" {
		c := &Cache{Root: root}
		work, err := c.Work()
		if err != nil || os.WriteFile(filepath.Join(work.Path, "half"), []byte("half"), 0o600) != nil {
			os.Exit(1)
		}
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		select {}
	}
	os.Exit(m.Run())
}

func TestOnlyWorkFoldersOfDeadProcessesAreRemoved(t *testing.T) {
	c := &Cache{Root: t.TempDir()}
	alive, err := c.Work()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), die+"="+c.Root)
	var killed *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &killed) || killed.Exited() {
		t.Fatalf("the process was not killed: %v", err)
	}
	count := func() int {
		list, err := os.ReadDir(c.Path(making))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := count(); n != 2 {
		t.Fatalf("%d work folders, want those of the live and of the dead process", n)
	}
	if err := c.Write("x", "y"); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1 {
		t.Errorf("%d work folders are left, want that of the live process", n)
	}
	if _, err := os.Stat(alive.Path); err != nil {
		t.Error(err)
	}
	if err := alive.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(alive.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v", err)
	}
}

// The owner's programs continue to work after root's were killed in the owner's cache. Only root
// can run this test.
func TestWorkFoldersOfAnotherUserDoNotBlock(t *testing.T) {
	if os.Geteuid() != 0 {
		return
	}
	c := &Cache{Root: t.TempDir()}
	theirs := filepath.Join(c.Path(making), ".theirs"+workdir.Suffix)
	if err := errors.Join(os.MkdirAll(filepath.Join(theirs, "half"), 0o700), os.Chown(theirs, 1234, 1234)); err != nil {
		t.Fatal(err)
	}
	if err := c.Write("x", "y"); err != nil {
		t.Error(err)
	}
}
