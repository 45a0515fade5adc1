package kernel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/guestimages/cache"
	"minivmm/internal/testbed/kerneltest"
	"minivmm/internal/testbed/testenv"
)

// fullVar turns this binary into a process that fills a small file system of its own.
const fullVar = "KERNEL_TEST_FULL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(fullVar); dir != "" {
		if err := importIntoFull(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// importIntoFull imports kernels of 64 KiB into a file system of 1 MiB until one does not fit, and
// checks what remains.
func importIntoFull(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	s := Open(&cache.Cache{Root: filepath.Join(dir, "cache")})
	source, err := os.MkdirTemp("", "images-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(source)
	n := 0
	for ; ; n++ {
		path := filepath.Join(source, "vmlinux")
		vmlinux := append(kerneltest.Vmlinux(fmt.Sprintf("6.12.%d", n)), make([]byte, 64<<10)...)
		if err := os.WriteFile(path, vmlinux, 0o644); err != nil {
			return err
		}
		_, err := s.Import(context.Background(), path, ImportOptions{})
		var input *InputError
		if errors.As(err, &input) {
			return fmt.Errorf("a full disk is reported as bad input: %w", err)
		}
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil || n > 100 {
			return fmt.Errorf("import %d: %w", n, err)
		}
	}
	all, err := s.List()
	if err != nil || len(all) != n || n == 0 {
		return fmt.Errorf("%d kernels, %w, want %d", len(all), err, n)
	}
	making, err := os.ReadDir(s.cache.Path("making"))
	if err != nil || len(making) != 0 {
		return fmt.Errorf("left in the folder of work folders: %v, %w", making, err)
	}
	kernels, err := os.ReadDir(s.cache.Path(folder))
	if err != nil || len(kernels) != n+1 { // and the index
		return fmt.Errorf("left among the kernels: %v, %w", kernels, err)
	}
	// Fill the rest of the disk.
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("filling the disk: %w", err)
	}
	if _, err := s.Remove(context.Background(), all[0].ID); err != nil {
		return fmt.Errorf("a full disk cannot be freed: %w", err)
	}
	return nil
}

func TestAFullDiskLeavesNothingHalfMade(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), fullVar+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, fs.ErrPermission) || strings.HasPrefix(string(out), "mount:") {
		testenv.NeedNil(t, "userns", fmt.Errorf("this machine does not allow its users to create namespaces: %v %s", err, out))
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
