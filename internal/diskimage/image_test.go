package diskimage

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vhosttest"
)

func newFile(t *testing.T, name string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	return path
}

// refused opens a disk that must be rejected, and checks the error.
func refused(t *testing.T, o Options, is error, words ...string) {
	t.Helper()
	img, err := Open(o)
	if err == nil {
		img.File.Close()
		t.Errorf("%+v was opened", o)
		return
	}
	var unusable *Error
	if is != nil && !errors.Is(err, is) || is == nil && !errors.As(err, &unusable) {
		t.Errorf("%+v: %v is a %T, want %v", o, err, err, is)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%+v: %v\nwant %q", o, err, w)
		}
	}
}

func opened(t *testing.T, o Options) Image {
	t.Helper()
	img, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.File.Close() })
	return img
}

func TestOtherFormatsAreRefused(t *testing.T) {
	for head, format := range map[string]string{
		"QFI\xfb\x00\x00\x00\x03": "qcow2",
		"KDMV\x01\x00":            "vmdk",
		"# Disk DescriptorFile\n": "vmdk",
		"vhdxfile":                "vhdx",
		"conectix":                "vpc",
		"QED\x00":                 "qed",
		strings.Repeat("<", 64) + "\x7f\x10\xda\xbe": "vdi",
	} {
		path := newFile(t, "my disk.img", 1<<20)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(head)
		f.Close()
		for _, kernel := range []bool{false, true} {
			refused(t, Options{Path: path, Kernel: kernel}, nil, path+": ", " "+format+" image",
				"qemu-img convert -O raw '"+path+"' '"+strings.TrimSuffix(path, ".img")+".raw'")
		}
	}
}

// readOnlyFS returns a file on a read-only file system.
func readOnlyFS(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	testenv.NeedNil(t, "root", unix.Mount("none", dir, "tmpfs", 0, ""))
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "disk.img")
	if err := errors.Join(os.WriteFile(path, make([]byte, 1<<20), 0o600), unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestReadOnlyFileSystem(t *testing.T) {
	path := readOnlyFS(t)
	opened(t, Options{Path: path, ReadOnly: true})
	refused(t, Options{Path: path}, nil, path, "read-only file system", "readonly = true")
	refused(t, Options{Path: path, ReadOnly: true, Kernel: true}, nil, path, "read-only file system", "vhost-scsi opens a file for writing", `backend = "inprocess"`)
	if err := (Options{Path: path, ReadOnly: true}).KernelCan(); err == nil {
		t.Error("KernelCan accepts a file that cannot be written")
	}
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

func TestBlockDeviceInUse(t *testing.T) {
	loop, err := vhosttest.OpenLoop(t, newFile(t, "a", 16<<20))
	testenv.NeedNil(t, "loop", err)

	writer := opened(t, Options{Path: loop})
	if fd, err := unix.Open(loop, unix.O_RDONLY|unix.O_EXCL, 0); err != unix.EBUSY {
		t.Errorf("another program can claim a disk that is open for writing: %d, %v", fd, err)
	}
	refused(t, Options{Path: loop, ReadOnly: true}, unix.EBUSY, "in use by process ")
	writer.File.Close()

	// Read-only disks do not exclude each other, but vhost-scsi requires exclusive use of a device.
	reader := opened(t, Options{Path: loop, ReadOnly: true})
	opened(t, Options{Path: loop, ReadOnly: true}).File.Close()
	fd, err := unix.Open(loop, unix.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Path: loop, ReadOnly: true, Kernel: true}, {Path: loop, Kernel: true}, {Path: loop}} {
		refused(t, o, unix.EBUSY, "in use by ")
	}
	unix.Close(fd)
	reader.File.Close()
	// LIO makes the claim itself.
	opened(t, Options{Path: loop, Kernel: true})
	if fd, err = unix.Open(loop, unix.O_RDWR|unix.O_EXCL, 0); err != nil {
		t.Errorf("a disk of the kernel's target is claimed by this process: %v", err)
	}
	unix.Close(fd)
}

func TestBlockDeviceOfTheHost(t *testing.T) {
	loop, err := vhosttest.OpenLoop(t, newFile(t, "a", 16<<20))
	testenv.NeedNil(t, "loop", err)
	name, dir := filepath.Base(loop), t.TempDir()
	everyone := []Options{{Path: loop}, {Path: loop, ReadOnly: true}, {Path: loop, Kernel: true}, {Path: loop, ReadOnly: true, Kernel: true}}

	command(t, "mkfs.ext4", "-q", loop)
	command(t, "mount", loop, dir)
	for _, o := range everyone {
		refused(t, o, unix.EBUSY, name+" is mounted at "+dir)
	}
	command(t, "umount", dir)
	command(t, "mkswap", loop)
	command(t, "swapon", loop)
	for _, o := range everyone {
		refused(t, o, unix.EBUSY, name+" is swap space")
	}
	command(t, "swapoff", loop)
	command(t, "blockdev", "--setro", loop)
	defer command(t, "blockdev", "--setrw", loop)
	opened(t, Options{Path: loop, ReadOnly: true}).File.Close()
	refused(t, Options{Path: loop}, nil, "the device is read-only", "blockdev --setrw "+loop)
}

func TestBlockDeviceOfOddSize(t *testing.T) {
	path := newFile(t, "a", 1<<20+512)
	loop, err := vhosttest.OpenLoop(t, path)
	testenv.NeedNil(t, "loop", err)
	command(t, "losetup", "--sector-size", "4096", loop)
	for _, kernel := range []bool{false, true} {
		refused(t, Options{Path: loop, Kernel: kernel}, nil, "1049088 bytes are not a multiple of the block size 4096")
	}
	command(t, "losetup", "--detach", loop)
	command(t, "losetup", loop, newFile(t, "empty", 0))
	refused(t, Options{Path: loop}, nil, loop+": is empty")
}
