package target

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
)

// loop creates a loop device of the given size and block size over a file. It returns its path and
// a function that resizes it.
func loop(t *testing.T, sizeBytes int64, blockSize int) (path string, resize func(sizeBytes int64)) {
	t.Helper()
	testenv.Need(t, "root", "loop")
	f, err := os.Create(filepath.Join(t.TempDir(), "loop.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(sizeBytes); err != nil {
		t.Fatal(err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		t.Fatal(&os.PathError{Op: "LOOP_CTL_GET_FREE", Path: "/dev/loop-control", Err: err})
	}
	path = fmt.Sprintf("/dev/loop%d", n)
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err != nil && err != unix.EEXIST {
		t.Fatal(err) // devtmpfs did not create it
	}
	device, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{Fd: uint32(f.Fd()), Size: uint32(blockSize)}); err != nil {
		t.Fatal(&os.PathError{Op: "LOOP_CONFIGURE", Path: path, Err: err})
	}
	t.Cleanup(func() {
		if _, err := unix.IoctlRetInt(int(device.Fd()), unix.LOOP_CLR_FD); err != nil {
			t.Errorf("LOOP_CLR_FD %s: %v", path, err)
		}
	})
	file := f.Name()
	return path, func(sizeBytes int64) {
		t.Helper()
		if err := os.Truncate(file, sizeBytes); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.IoctlRetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY); err != nil {
			t.Fatal(&os.PathError{Op: "LOOP_SET_CAPACITY", Path: path, Err: err})
		}
	}
}
