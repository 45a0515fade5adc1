package vmm_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// Serial numbers of the disks of toolsScenario.
const (
	toolsSerial  = "tools-1"
	loopSerial   = "loop-2"
	testedSerial = "0123456789abcdef"
)

// diskTool is a program that the guest runs on a disk. The disk's device replaces "DISK".
type diskTool struct {
	line string
	exit int    // of sg3_utils: 9 is an unknown command, 22 a block that is out of range
	want string // a pattern that the output must match
	only string // the backend to test; "": both
}

// diskTools are the tools that users run, in this order. With vhost-scsi the test only checks that
// the same tools work, not the kernel's target. It omits fio, which takes longest, and a reset,
// after which vhost-scsi before Linux 6.4 cannot remove several LUNs.
var diskTools = []diskTool{
	{"sg_turs -v DISK", 0, "", ""},
	{"sg_inq DISK", 0, `(?s)version=0x06.*LIO-ORG.*minivmm disk`, ""},
	{"sg_vpd -p sv DISK", 0, `(?s)Unit serial number.*Block limits.*Block device char.*Logical block prov`, ""},
	{"sg_vpd -p sn DISK", 0, testedSerial, ""},
	{"sg_vpd -p di DISK", 0, `0x60014050123456789abcdef0+`, ""},
	{"sg_vpd -p bl DISK", 0, `Maximum unmap LBA count: [1-9]`, ""},
	{"sg_vpd -p bdc DISK", 0, `Non-rotating medium`, ""},
	{"sg_vpd -p lbpv DISK", 0, `Unmap command supported \(LBPU\): 1`, ""},
	{"sg_vpd -a DISK", 0, "", ""},
	{"sg_readcap DISK", 0, `Last LBA=131071 .*(?s).*512 bytes`, ""},
	{"sg_readcap -l DISK", 0, `(?s)lbpme=1.*131072`, ""},
	{"sg_luns DISK", 0, `(?s)Lun list length = 24.*0002000000000000`, "inprocess"},
	{"sg_modes -a DISK", 0, `Caching`, ""},
	{"sg_requests DISK", 0, ``, ""},
	{"sg_opcodes DISK", 0, `(?s)UNMAP|Unmap`, "inprocess"},
	{"sg_opcodes --rctd DISK", 0, `(?s)UNMAP|Unmap`, "inprocess"},
	{"sg_opcodes --tmf DISK", 0, `Logical unit reset`, "inprocess"},
	{"sg_sync DISK", 0, ``, ""},
	{"sg_sync --16 --lba=8 --count=8 DISK", 0, ``, ""},
	{"sg_verify --lba=0 --count=128 DISK", 0, ``, "inprocess"},
	{"sg_unmap --lba=8 --num=8 --force DISK", 0, ``, ""},
	{"sg_write_same --lba=16 --num=8 --xferlen=512 --in=/dev/zero DISK", 0, ``, ""},
	{"sg_write_same --16 --unmap --lba=32 --num=64 --xferlen=512 --in=/dev/zero DISK", 0, ``, "inprocess"},
	{"sg_dd if=/dev/zero of=DISK bs=512 count=64 seek=128 oflag=sgio,fua", 0, `64\+0 records out`, ""},
	{"sg_dd if=DISK of=/dev/null bs=512 count=256 skip=130816 iflag=sgio", 0, `256\+0 records in`, ""},
	{"sg_dd if=DISK of=/dev/null bs=512 count=1 skip=131072 iflag=sgio", 22, ``, "inprocess"},
	{"sg_format --format --quick DISK", 9, ``, "inprocess"},
	{"sg_persist -k DISK", 9, ``, "inprocess"},
	{"sg_start --stop DISK", 0, ``, "inprocess"},
	{"sg_turs DISK", 2, ``, "inprocess"},
	{"sg_start --start DISK", 0, ``, "inprocess"},
	{"sg_reset --device DISK", 0, ``, "inprocess"},
	{"sg_turs -n 3 DISK", 0, ``, ""},
	{"mke2fs -q -t ext4 DISK", 0, ``, ""},
	{"e2fsck -f -n DISK", 0, `non-contiguous`, ""},
	{"fio --name=verify --filename=DISK --ioengine=libaio --iodepth=16 --direct=1 --rw=randwrite --bsrange=512-64k --size=16M" +
		" --verify=crc32c --verify_fatal=1 --fdatasync=64 --verify_state_save=0", 0, `err= 0`, "inprocess"},
	{"fio --name=trim --filename=DISK --ioengine=libaio --iodepth=8 --direct=1 --rw=randtrim --bs=64k --offset=32M --size=8M", 0, `err= 0`, "inprocess"},
}

// toolPatience is many times longer than any tool runs.
const toolPatience = 40 * time.Second

// toolsScenario runs the tools, from a separate disk. Its arguments name the backends of the disks.
func toolsScenario(g *vmmtest.Guest) error {
	backend := g.Args[0]
	tools, err := g.Disk(toolsSerial)
	if err != nil {
		return err
	}
	disk, err := g.Disk(testedSerial)
	if err != nil {
		return err
	}
	const root = "/t"
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(tools, root, "ext4", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount %s: %w", tools, err)
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/tmp"} {
		if err := unix.Mount(dir, root+dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
	}
	for _, tool := range diskTools {
		if tool.only != "" && tool.only != backend {
			continue
		}
		words := strings.Fields(strings.ReplaceAll(tool.line, "DISK", disk))
		cmd := exec.Command("/usr/bin/"+words[0], words[1:]...)
		cmd.Dir = "/tmp"
		cmd.SysProcAttr = &unix.SysProcAttr{Chroot: root}
		begun := time.Now()
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		ended := make(chan error, 1)
		go func() { ended <- cmd.Run() }()
		select {
		case err := <-ended:
			if cmd.ProcessState == nil {
				return fmt.Errorf("%s: %w", tool.line, err)
			}
		case <-time.After(toolPatience):
			return fmt.Errorf("%s: still running after %v", tool.line, toolPatience) // its output is the command's
		}
		g.Printf("tool %s: exit %d, %v", tool.line, cmd.ProcessState.ExitCode(), time.Since(begun).Round(time.Millisecond))
		if cmd.ProcessState.ExitCode() != tool.exit || !regexp.MustCompile(tool.want).Match(out.Bytes()) {
			g.Printf("%s", out.Bytes())
			g.Printf("wrong %s: exit %d, want %d and %q", tool.line, cmd.ProcessState.ExitCode(), tool.exit, tool.want)
		}
	}
	if backend == "inprocess" {
		if err := cacheTypes(disk); err != nil {
			return err
		}
	}
	loop, err := g.Disk(loopSerial)
	if err != nil {
		return err
	}
	if err := discards(loop); err != nil {
		return fmt.Errorf("the loop device: %w", err)
	}
	return resizes(g, disk, backend)
}

// cacheTypes switches the write cache off and on as a user does.
func cacheTypes(disk string) error {
	files, err := filepath.Glob("/sys/block/" + filepath.Base(disk) + "/device/scsi_disk/*/cache_type")
	if err != nil || len(files) != 1 {
		return fmt.Errorf("cache_type: %v, %v", files, err)
	}
	for _, kind := range []string{"write through", "write back"} {
		if err := os.WriteFile(files[0], []byte(kind), 0); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		if got := readWord(files[0]); got != kind {
			return fmt.Errorf("cache_type is %q, want %q", got, kind)
		}
	}
	return nil
}

// discards writes to a disk with blocks of 4096 bytes, and discards half of it.
func discards(disk string) error {
	f, err := os.OpenFile(disk, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if n, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err != nil || n != 4096 {
		return fmt.Errorf("blocks of %d bytes, %v; want 4096", n, err)
	}
	buf, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	defer unix.Munmap(buf)
	for i := range buf {
		buf[i] = byte(i>>12) | 1
	}
	if _, err := f.WriteAt(buf, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 512<<10, 512<<10); err != nil {
		return fmt.Errorf("punch a hole: %w", err)
	}
	want := bytes.Clone(buf)
	clear(want[512<<10:])
	clear(buf)
	if _, err := f.ReadAt(buf, 0); err != nil {
		return err
	}
	if !bytes.Equal(buf, want) {
		return fmt.Errorf("the data differs from what was written")
	}
	return nil
}

// resizes asks the test to grow and shrink the disk, and waits until the kernel knows the new size.
func resizes(g *vmmtest.Guest, disk, backend string) error {
	sysfs := "/sys/block/" + filepath.Base(disk)
	for {
		g.Printf("size %s", readWord(sysfs+"/size"))
		line, err := g.ReadLine()
		if err != nil || line == "quit" {
			return err
		}
		var sectors string
		var rescan, read bool
		if _, err := fmt.Sscan(line, &sectors, &rescan, &read); err != nil {
			return err
		}
		if rescan {
			if err := os.WriteFile(sysfs+"/device/rescan", []byte("1"), 0); err != nil {
				return err
			}
		}
		if read {
			f, err := os.OpenFile(disk, os.O_RDONLY|unix.O_DIRECT, 0)
			if err != nil {
				return err
			}
			buf, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
			if err != nil {
				return err
			}
			_, err = f.ReadAt(buf, 0)
			f.Close()
			_ = unix.Munmap(buf)
			if err != nil {
				return err
			}
		}
		if err := g.Await("size "+sectors+" of "+disk, func() bool { return readWord(sysfs+"/size") == sectors }); err != nil {
			return err
		}
	}
}

// stageTools puts the tools and their libraries on a disk image.
func stageTools(t *testing.T, dir string) string {
	t.Helper()
	testenv.Need(t, "sg3-utils", "fio", "mke2fs")
	tree := filepath.Join(dir, "tools")
	for _, d := range []string{"dev", "proc", "sys", "tmp", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	library := regexp.MustCompile(`(?m)(/\S+) \(0x`)
	files := map[string]string{} // by path in the guest
	for _, tool := range diskTools {
		name, _, _ := strings.Cut(tool.line, " ")
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if files["/usr/bin/"+name] != "" {
			continue
		}
		files["/usr/bin/"+name] = path
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			t.Fatalf("ldd %s: %v", path, err)
		}
		for _, m := range library.FindAllStringSubmatch(string(out), -1) {
			files[m[1]] = m[1]
		}
	}
	for to, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to = filepath.Join(tree, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(dir, "tools.img")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, image, "160M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	return image
}

// loopDevice creates a block device of 16 MiB with blocks of 4096 bytes.
func loopDevice(t *testing.T, dir string) string {
	t.Helper()
	testenv.Need(t, "losetup")
	file := filepath.Join(dir, "loop.img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 16<<20); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", "--sector-size", "4096", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v: %s", device, err, out)
		}
	})
	return device
}

// TestToolsOnADisk runs real tools in one guest for each backend, on a file, a block device, and a
// file that changes its size.
func TestToolsOnADisk(t *testing.T) {
	k := vmmtest.Kernels(t)[0]
	testenv.Need(t, "kvm", "vhost-scsi")
	dir := t.TempDir()
	tools := stageTools(t, dir)
	for _, backend := range []string{"inprocess", "vhost-scsi"} {
		t.Run(backend, func(t *testing.T) {
			disk := filepath.Join(t.TempDir(), "disk.img")
			size := func(mib int64) {
				t.Helper()
				if err := os.Truncate(disk, mib<<20); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(disk, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			size(64)
			cfg := parse(t, `
[boot]
kernel  = %q
initrd  = %q
cmdline = "quiet"
[[disk]]
path    = %q
serial  = %q
backend = %q
[[disk]]
path     = %q
serial   = %q
readonly = true
[[disk]]
path   = %q
serial = %q
`, vmmtest.Vmlinux(t, k), vmmtest.InitrdWith(t, k, []string{"ext4"}, "tools", backend), disk, testedSerial, backend, tools, toolsSerial, loopDevice(t, t.TempDir()), loopSerial)
			m := vmmtest.Boot(t, cfg)
			// A line with only the size, in sectors, is the guest's last line before its request.
			m.Expect(`size 131072`)
			for _, step := range []struct {
				mib          int64
				rescan, told bool // call Rescan, and its expected result
				read         bool // otherwise the guest reads, and the disk notices the change on its own
			}{
				{80, true, true, false},
				{96, false, false, true},
				{48, true, true, false},
			} {
				size(step.mib)
				if backend == "vhost-scsi" {
					step.rescan, step.told, step.read = true, false, false
				}
				if step.rescan {
					changed, err := m.Rescan()
					if err != nil || len(changed) != 1 || changed[0].ID != "disk0" || changed[0].SizeBytes != uint64(step.mib<<20) || changed[0].Told != step.told {
						t.Fatalf("%d MiB: %+v, %v", step.mib, changed, err)
					}
				}
				m.Send(fmt.Sprintf("%d %v %v\n", step.mib<<11, step.rescan && !step.told, step.read))
				m.Expect(fmt.Sprintf(`size %d`, step.mib<<11))
			}
			m.Send("quit\n")
			m.Succeed()
			if wrong := regexp.MustCompile(`(?m)^wrong .*`).FindAllString(m.Transcript(), -1); len(wrong) > 0 {
				t.Errorf("%s", strings.Join(wrong, "\n"))
			}
		})
	}
}
