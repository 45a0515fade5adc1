package lio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/diskimage"
	"minivmm/internal/testbed/testenv"
)

// newImage creates a file whose size is valid for a disk.
func newImage(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCreateWritesWhatTheKernelNeeds(t *testing.T) {
	f, tr := newFake(t)
	rw, ro := newImage(t, "a,b=\n"+strings.Repeat("x", 200)), newImage(t, "ro.img")
	tg, err := tr.create(Config{Name: "web server/1", LUNs: []LUN{
		{Path: rw, Serial: "S1", Cache: Writethrough, BlockSize: 4096},
		{Path: ro, ReadOnly: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	id, ok := parseWWPN(tg.WWPN())
	if !ok || id != tg.id || id.pid != os.Getpid() {
		t.Errorf("wwpn %q is %v, want process %d", tg.WWPN(), id, os.Getpid())
	}
	core := fmt.Sprintf("core/fileio_%d/%s", id.number, id)
	tpg := "vhost/" + tg.WWPN() + "/tpgt_0"
	guest := tg.WWPN() + ".guest"
	rwFD, roFD := tg.images[0].File.Fd(), tg.images[1].File.Fd()
	want := []string{
		core + ".0.web_server_1/control <- " + fmt.Sprintf("fd_dev_name=/proc/self/fd/%d,fd_dev_size=1048576", rwFD),
		core + ".0.web_server_1/enable <- 1",
		core + ".0.web_server_1/attrib/emulate_3pc <- 0",
		core + ".0.web_server_1/attrib/emulate_caw <- 0",
		core + ".0.web_server_1/attrib/emulate_pr <- 0",
		core + ".0.web_server_1/attrib/is_nonrot <- 1",
		core + ".0.web_server_1/attrib/submit_type <- 1",
		core + ".0.web_server_1/wwn/vpd_unit_serial <- S1",
		core + ".0.web_server_1/wwn/product_id <- minivmm disk",
		core + ".0.web_server_1/attrib/emulate_tpu <- 1",
		core + ".0.web_server_1/attrib/block_size <- 4096",
		tpg + "/lun/lun_0/backstore -> " + core + ".0.web_server_1",
		core + ".1.web_server_1/control <- " + fmt.Sprintf("fd_dev_name=/proc/self/fd/%d,fd_dev_size=1048576,fd_buffered_io=1", roFD),
		core + ".1.web_server_1/udev_path <- " + ro,
		core + ".1.web_server_1/enable <- 1",
		core + ".1.web_server_1/attrib/emulate_3pc <- 0",
		core + ".1.web_server_1/attrib/emulate_caw <- 0",
		core + ".1.web_server_1/attrib/emulate_pr <- 0",
		core + ".1.web_server_1/attrib/is_nonrot <- 1",
		core + ".1.web_server_1/attrib/submit_type <- 1",
		core + ".1.web_server_1/wwn/vpd_unit_serial <- " + diskimage.Serial(ro),
		core + ".1.web_server_1/wwn/product_id <- minivmm disk",
		tpg + "/lun/lun_1/backstore -> " + core + ".1.web_server_1",
		tpg + "/acls/" + guest + "/lun_0/lun -> " + tpg + "/lun/lun_0",
		tpg + "/acls/" + guest + "/lun_0/write_protect <- 0",
		tpg + "/acls/" + guest + "/lun_1/lun -> " + tpg + "/lun/lun_1",
		tpg + "/acls/" + guest + "/lun_1/write_protect <- 1",
		tpg + "/nexus <- " + guest,
	}
	for i := range max(len(want), len(f.log)) {
		var g, w string
		if i < len(f.log) {
			g = f.log[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("step %d:\ngot  %q\nwant %q", i, g, w)
		}
	}
	if err := tg.Remove(); err != nil {
		t.Fatal(err)
	}
	if left := f.objectsLeft(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if err := tg.Remove(); err != nil {
		t.Errorf("second Remove: %v", err)
	}
}

func TestOldKernelHasNoSubmitType(t *testing.T) {
	f, tr := newFake(t)
	f.old = true
	tg, err := tr.create(Config{LUNs: []LUN{{Path: newImage(t, "a")}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tg.Remove(); err != nil {
		t.Error(err)
	}
}

func TestTargetsOfOneOwnerHaveTheirOwnNames(t *testing.T) {
	f, tr := newFake(t)
	a, err := tr.create(Config{LUNs: []LUN{{Path: newImage(t, "a")}}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := tr.create(Config{LUNs: []LUN{{Path: newImage(t, "b")}}})
	if err != nil {
		t.Fatal(err)
	}
	if a.WWPN() == b.WWPN() {
		t.Errorf("both have the name %s", a.WWPN())
	}
	if err := a.Remove(); err != nil {
		t.Error(err)
	}
	if err := b.Remove(); err != nil {
		t.Error(err)
	}
	if left := f.objectsLeft(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// A file system without holes cannot free blocks, and the kernel's target would fail each UNMAP.
func TestDiscardIsOfferedWhereThereAreHoles(t *testing.T) {
	var err error
	if os.Getuid() != 0 {
		err = errors.New("not root")
	}
	testenv.NeedNil(t, "root", err)
	for fs, holes := range map[string]bool{"tmpfs": true, "ramfs": false} {
		dir := t.TempDir()
		if err := unix.Mount("none", dir, fs, 0, ""); err != nil {
			t.Fatal(err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		path := filepath.Join(dir, "disk.img")
		if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		f, tr := newFake(t)
		tg, err := tr.create(Config{LUNs: []LUN{{Path: path}}})
		if err != nil {
			t.Fatal(err)
		}
		if offered := strings.Contains(strings.Join(f.log, "\n"), "attrib/emulate_tpu <- 1"); offered != holes {
			t.Errorf("%s: %v, want %v", fs, offered, holes)
		}
		if err := tg.Remove(); err != nil {
			t.Error(err)
		}
	}
}

func TestImageIsLockedUntilRemove(t *testing.T) {
	_, tr := newFake(t)
	path := newImage(t, "a")
	ro := Config{LUNs: []LUN{{Path: path, ReadOnly: true}}}
	rw := Config{LUNs: []LUN{{Path: path}}}
	first, err := tr.create(ro)
	if err != nil {
		t.Fatal(err)
	}
	second, err := tr.create(ro)
	if err != nil {
		t.Fatalf("two readers: %v", err)
	}
	_, err = tr.create(rw)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d,", os.Getpid())) {
		t.Errorf("writer with readers: %v", err)
	}
	if err := errors.Join(first.Remove(), second.Remove()); err != nil {
		t.Fatal(err)
	}
	third, err := tr.create(rw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.create(ro); !errors.Is(err, unix.EBUSY) {
		t.Errorf("reader with a writer: %v", err)
	}
	if _, err := tr.create(Config{LUNs: []LUN{{Path: newImage(t, "b")}, {Path: path}}}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("second disk with the same image: %v", err)
	}
	if err := third.Remove(); err != nil {
		t.Error(err)
	}
}

func TestBadConfigsAreRefused(t *testing.T) {
	dir := t.TempDir()
	good := newImage(t, "good")
	odd := filepath.Join(dir, "odd")
	if err := os.WriteFile(odd, make([]byte, 700), 0o644); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		c    Config
		want string
	}{
		{"no disks", Config{}, "0 disks"},
		{"too many", Config{LUNs: make([]LUN, 257)}, "257 disks"},
		{"typo", Config{LUNs: []LUN{{Path: good}, {Path: filepath.Join(dir, "typo")}}}, "disk 1: open " + dir + "/typo: no such file"},
		{"folder", Config{LUNs: []LUN{{Path: dir, ReadOnly: true}}}, "neither a regular file"},
		{"fifo", Config{LUNs: []LUN{{Path: fifo}}}, "neither a regular file"},
		{"odd size", Config{LUNs: []LUN{{Path: odd}}}, "700 bytes are not a multiple of the block size 512"},
		{"block size", Config{LUNs: []LUN{{Path: good, BlockSize: 520}}}, "block size 520"},
		{"cache", Config{LUNs: []LUN{{Path: good, Cache: "unsafe"}}}, `cache "unsafe"`},
		{"serial", Config{LUNs: []LUN{{Path: good, Serial: "a b"}}}, "serial"},
	} {
		f, tr := newFake(t)
		_, err := tr.create(test.c)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
		if len(f.made) > 0 {
			t.Errorf("%s: created %v", test.name, f.made)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "typo")); !errors.Is(err, os.ErrNotExist) {
		t.Error("a wrong path created a file")
	}
}

func TestMissingModuleIsNamed(t *testing.T) {
	err := hint(&os.PathError{Op: "mkdir", Path: "/x", Err: unix.EINVAL})
	if !strings.Contains(err.Error(), "modprobe vhost_scsi") {
		t.Error(err)
	}
	missing := tree{root: filepath.Join(t.TempDir(), "none"), fs: kernelFS{}}
	if _, err := missing.create(Config{LUNs: []LUN{{Path: newImage(t, "a")}}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no root: %v", err)
	}
}

func TestUsableSaysWhatIsMissing(t *testing.T) {
	missing := tree{filepath.Join(t.TempDir(), "target"), kernelFS{}}
	if _, err := missing.prepare(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without configfs: %v", err)
	}
}
