package config

import (
	"reflect"
	"testing"
)

func TestLimitsAreRead(t *testing.T) {
	got, err := parseTest(boot + `
[limits]
cpu_weight = 10000
cpu_max = "150%"
cpuset = "3,0-1"
memory_max = "272M"
memory_high = "260M"
pids_max = 1
io_weight = 1
io = ["/dev/vda  weight=7 read_bps=10M write_iops=5", "/srv read_iops=1 write_bps=1K"]
vcpu_share = 300
io_share = 1
strict = true
[rlimits]
nproc = 1
nofile = 64
memlock = "64K"
[namespaces]
net = "blue"
mount = true
uts = true
ipc = true
user = true
pid = true
`)
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{
		CPUWeight: 10000, CPUMax: 150, CPUSet: CPUSet{0, 1, 3}, MemoryMax: 272 << 20, MemoryHigh: 260 << 20, PIDsMax: 1, IOWeight: 1,
		IO: []IOLimit{
			{Path: "/dev/vda", Weight: 7, ReadBPS: 10 << 20, WriteIOPS: 5},
			{Path: "/srv", ReadIOPS: 1, WriteBPS: 1 << 10},
		},
		VCPUShare: 300, IOShare: 1, Strict: true,
	}
	if !reflect.DeepEqual(got.Limits, limits) {
		t.Errorf("got  %+v\nwant %+v", got.Limits, limits)
	}
	if want := (Rlimits{NProc: 1, NoFile: 64, Memlock: 64 << 10}); got.Rlimits != want {
		t.Errorf("got %+v, want %+v", got.Rlimits, want)
	}
	if want := (Namespaces{Net: "blue", Mount: true, UTS: true, IPC: true, User: true, PID: true}); got.Namespaces != want {
		t.Errorf("got %+v, want %+v", got.Namespaces, want)
	}
	again, err := parseTest(string(got.TOML()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, got.TOML())
	}
	if !reflect.DeepEqual(got, again) {
		t.Errorf("after writing and parsing: %+v\nbefore: %+v", again, got)
	}
}

func TestInvalidLimitsAreReported(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"[limits]\ncpu_weight = 0", "limits.cpu_weight: 0 is out of range: want 1 to 10000"},
		{"[limits]\ncpu_weight = 10001", "limits.cpu_weight: 10001 is out of range: want 1 to 10000"},
		{"[limits]\nvcpu_share = -1", "limits.vcpu_share: -1 is out of range: want 1 to 10000"},
		{"[limits]\npids_max = 0", "limits.pids_max: 0 is out of range: want 1 to 4194304"},
		{"[limits]\ncpu_max = '1.5'", "limits.cpu_max: \"1.5\" is not a share of CPU time: write \"50%\" for half a CPU, \"200%\" for two"},
		{"[limits]\ncpu_max = '0%'", "limits.cpu_max: 0% is out of range: want 1% to 102400%"},
		{"[limits]\ncpu_max = 2", "limits.cpu_max must be a string like \"150%\", not the number 2"},
		{"[limits]\nmemory_max = '256M'", "limits.memory_max: 256M is too small: the guest's memory is 256M, and minivmm and the kernel need up to 16M more"},
		{"[limits]\nmemory_max = '0M'", "limits.memory_max: 0 is too small: the guest's memory is 256M, and minivmm and the kernel need up to 16M more"},
		{"[limits]\nmemory_high = '0M'", "limits.memory_high: a machine cannot run in 0 bytes"},
		{"[limits]\nmemory_max = '300M'\nmemory_high = '301M'", "limits.memory_high: 301M is more than limits.memory_max, 300M"},
		{"[limits]\nio = ['/dev/vda']", "limits.io[0]: \"/dev/vda\" is not a disk limit: write a path and limits, like \"/dev/vda weight=50 read_bps=10M write_iops=100\""},
		{"[limits]\nio = ['vda weight=1']", "limits.io[0]: path \"vda\" is not absolute"},
		{"[limits]\nio = ['/dev/vda rbps=1']", "limits.io[0]: \"rbps\" is not one of weight, read_bps, write_bps, read_iops and write_iops, or is set twice"},
		{"[limits]\nio = ['/dev/vda weight=1 weight=1']", "limits.io[0]: \"weight\" is not one of weight, read_bps, write_bps, read_iops and write_iops, or is set twice"},
		{"[limits]\nio = ['/dev/vda weight=x']", "limits.io[0]: weight: \"x\" is out of range: want 1 to 10000"},
		{"[limits]\nio = ['/dev/vda read_bps=0K']", "limits.io[0]: \"/dev/vda read_bps=0K\": a disk cannot work at 0 bytes per second"},
		{"[limits]\nio = ['/a weight=1', '/a weight=2']", "limits.io[1]: \"/a\" is already in limits.io[0]"},
		{"[rlimits]\nnproc = 0", "rlimits.nproc: 0 is out of range: want 1 to 4194304"},
		{"[rlimits]\nnofile = 63", "rlimits.nofile: 63 is out of range: want 64 to 1073741824"},
		{"[namespaces]\nnet = ''", "namespaces.net: \"\" is not a network namespace: write \"new\", or the NAME given to ip netns add NAME"},
		{"[namespaces]\nnet = '../1'", "namespaces.net: \"../1\" is not a network namespace: write \"new\", or the NAME given to ip netns add NAME"},
		{"[namespaces]\nnet = true", "namespaces.net must be a string like \"new\", not true"},
	} {
		_, err := parseTest(boot + c.text)
		e, ok := err.(*Error)
		if !ok || len(e.Problems) != 1 || e.Problems[0].Text != c.want {
			t.Errorf("%s\ngives %v\nwant  %s", c.text, err, c.want)
		}
	}
}
