package vmm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/vmm/cgroup"
	"minivmm/vmm/config"
)

func TestCgroupSettingsOfLimits(t *testing.T) {
	all := config.Limits{
		CPUWeight: 50, CPUMax: 150, CPUSet: config.CPUSet{0, 1, 3}, MemoryMax: 600 << 20, MemoryHigh: 500 << 20, PIDsMax: 99, IOWeight: 7,
		VCPUShare: 300,
	}
	want := cgroup.Config{
		Name: "web",
		Settings: []cgroup.Setting{
			{Key: "limits.cpu_weight", File: "cpu.weight", Value: "50"},
			{Key: "limits.cpu_max", File: "cpu.max", Value: "150000 100000"},
			{Key: "limits.cpuset", File: "cpuset.cpus", Value: "0-1,3"},
			{Key: "limits.memory_high", File: "memory.high", Value: "524288000"},
			{Key: "limits.memory_max", File: "memory.max", Value: "629145600"},
			{Key: "limits.io_weight", File: "io.weight", Value: "default 7"},
			{Key: "limits.pids_max", File: "pids.max", Value: "99"},
		},
		VCPU: []cgroup.Setting{{Key: "limits.vcpu_share", File: "cpu.weight", Value: "300"}},
		IO:   []cgroup.Setting{{Key: "limits.io_share", File: "cpu.weight", Value: "100"}},
	}
	got, err := cgroupConfig(&config.Config{Name: "web", Limits: all})
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\ngot  %+v\nwant %+v", err, got, want)
	}
	none, err := cgroupConfig(&config.Config{Name: "web"})
	if err != nil || len(none.Settings)+len(none.VCPU)+len(none.IO) != 0 {
		t.Errorf("without limits: %+v, %v", none, err)
	}
}

func TestIOMax(t *testing.T) {
	for _, c := range []struct {
		limit config.IOLimit
		want  string
	}{
		{config.IOLimit{Path: "/a", Weight: 5}, ""},
		{config.IOLimit{ReadBPS: 1 << 20}, " rbps=1048576"},
		{config.IOLimit{ReadBPS: 1 << 10, WriteBPS: 2 << 10, ReadIOPS: 3, WriteIOPS: 4}, " rbps=1024 wbps=2048 riops=3 wiops=4"},
	} {
		if got := ioMax(c.limit); got != c.want {
			t.Errorf("%v: %q, want %q", c.limit, got, c.want)
		}
	}
}

// TestDiskOf creates a node for each block device of this host. A partition must be resolved to the
// disk that contains it.
func TestDiskOf(t *testing.T) {
	if _, err := diskOf("/proc/self/stat"); !errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "/proc/self/stat is not on a disk of this host") {
		t.Errorf("a file that is not on a disk: %v", err)
	}
	if _, err := diskOf("/nowhere"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	testenv.Need(t, "root")
	devices, err := filepath.Glob("/sys/class/block/*/dev")
	if err == nil && len(devices) == 0 {
		err = errors.New("no block devices")
	}
	testenv.NeedNil(t, "loop", err)
	for i, dev := range devices {
		number := func(file string) (major, minor uint32) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
				t.Fatal(err)
			}
			return major, minor
		}
		major, minor := number(dev)
		node := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
			t.Fatal(err)
		}
		dir, err := filepath.EvalSymlinks(filepath.Dir(dev))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir + "/partition"); err == nil {
			major, minor = number(filepath.Dir(dir) + "/dev")
		}
		if got, err := diskOf(node); err != nil || got != fmt.Sprintf("%d:%d", major, minor) {
			t.Errorf("%s: %s, %v; want %d:%d", dev, got, err, major, minor)
		}
	}
}
