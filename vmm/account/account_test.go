package account

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// recorded creates a /proc from a file in testdata, which was recorded on a host with a running
// machine. A line "@@ PATH" starts a file.
func recorded(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, part := range strings.Split("\n"+string(b), "\n@@ ")[1:] {
		path, text, _ := strings.Cut(part, "\n")
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestRecordedMachines reads machines with a vCPU, a NIC and a disk, as both kinds of kernel show
// them.
func TestRecordedMachines(t *testing.T) {
	for _, test := range machines {
		t.Run(test.file, func(t *testing.T) {
			proc := recorded(t, test.file)
			recovery := findRecovery(proc, test.maker)
			list, err := threads(proc, test.known, recovery)
			if err != nil {
				t.Fatal(err)
			}
			var own int
			for i, th := range list {
				if th.Kind == Minivmm {
					own++
					if th.Comm != "minivmm" || th.Kthread || th.Role != "minivmm" {
						t.Errorf("%+v", th)
					}
					continue
				}
				if i >= len(test.want) || th != test.want[i] {
					t.Errorf("thread %d:\n%+v, want one of\n%+v", i, th, test.want)
				}
			}
			if own != test.own || len(list) != own+len(test.want) {
				t.Errorf("%d threads, %d of minivmm; want %d and %d", len(list), own, test.own+len(test.want), test.own)
			}
			status, err := os.ReadFile(filepath.Join(proc, "self", "status"))
			if err != nil {
				t.Fatal(err)
			}
			if m := parseMemory(string(status)); m.Resident != test.resident || m.PageTables != test.pageTables {
				t.Errorf("memory %+v", m)
			}
		})
	}
}

func TestAThreadThatHasExited(t *testing.T) {
	proc := recorded(t, "6.12.txt")
	known := []Thread{{TID: 99999, Kind: Worker, Role: "net0"}, {TID: 0, Kthread: true, Kind: Worker, Role: "scsi0"}}
	list, err := threads(proc, known, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Thread{{TID: 99999, Kind: Worker, Role: "net0", State: "gone"}, {Kthread: true, Kind: Worker, Role: "scsi0", State: "gone"}} {
		if list[i] != want {
			t.Errorf("%+v, want %+v", list[i], want)
		}
	}
	// An unknown worker is identified by its flag.
	var unknown []string
	for _, th := range list[2:] {
		if th.Kind == Worker {
			unknown = append(unknown, th.Role)
		}
	}
	if len(unknown) != 2 || !strings.HasPrefix(unknown[0], "vhost-") {
		t.Errorf("unknown workers: %q", unknown)
	}
}

func TestParseSchedstat(t *testing.T) {
	for _, bad := range []string{"", "1", "a 2 3", "1 -2 3"} {
		if run, wait, err := parseSchedstat(bad); err == nil {
			t.Errorf("schedstat %q: %d, %d", bad, run, wait)
		}
	}
}

func TestRoles(t *testing.T) {
	list := []Thread{
		{TID: 1, Kind: VCPU, Role: "vcpu 0", Usage: Usage{CPU: 100, User: 70, System: 30, Voluntary: 1, Preempted: 2}, Wait: 5},
		{TID: 2, Kind: Worker, Role: "scsi0", Usage: Usage{CPU: 40, System: 40}},
		{TID: 3, Kind: Worker, Role: "scsi0", Usage: Usage{CPU: 2, System: 2}},
		{TID: 4, Kind: Worker, Role: "net0", Kthread: true, Usage: Usage{CPU: 1000, System: 1000}},
		{TID: 5, Kind: Minivmm, Role: "minivmm", Usage: Usage{CPU: 8, User: 10}},
	}
	want := []Role{
		{Kind: VCPU, Role: "vcpu 0", Threads: 1, Usage: Usage{CPU: 100, User: 70, System: 30, Voluntary: 1, Preempted: 2}, Wait: 5},
		{Kind: Worker, Role: "scsi0", Threads: 2, Usage: Usage{CPU: 42, System: 42}},
		{Kind: Worker, Role: "net0", Threads: 1, Usage: Usage{CPU: 1000, System: 1000}},
		{Kind: Minivmm, Role: "minivmm", Threads: 1, Usage: Usage{CPU: 8, User: 10}},
		// the threads' user time exceeds the process's, because of rounding
		{Kind: Ended, Role: "ended", Usage: Usage{CPU: 10, System: 10, Preempted: 1, Voluntary: 4}},
	}
	r := &Report{Threads: list, Roles: Roles(list, Usage{CPU: 160, User: 78, System: 82, Voluntary: 5, Preempted: 3})}
	if !reflect.DeepEqual(r.Roles, want) {
		t.Errorf("%+v, want\n%+v", r.Roles, want)
	}
	if all, kthreads := r.Sum(); all != 1160 || kthreads != 1000 {
		t.Errorf("sum %d, kernel threads %d", all, kthreads)
	}
}

// TestThisProcess does work on some threads and compares them with the kernel's figures for the
// process.
func TestThisProcess(t *testing.T) {
	done := make(chan int)
	hold := make(chan struct{})
	defer close(hold)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for n := uint32(1); ; n++ {
			if p, err := ReadProcess(); err != nil || p.CPU > 300e6 {
				break
			}
		}
		done <- unix.Gettid()
		<-hold
	}()
	tid := <-done
	list, err := Threads([]Thread{{TID: tid, Kind: VCPU, Role: "vcpu 0"}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ReadProcess()
	if err != nil {
		t.Fatal(err)
	}
	if busy := list[0]; busy.TID != tid || busy.Kind != VCPU || busy.CPU < 50e6 || busy.CPUs == "" || busy.State == "gone" {
		t.Errorf("the busy thread is %+v", busy)
	}
	var sum uint64
	for _, r := range Roles(list, p) {
		if r.Kind != Ended {
			sum += r.CPU
		}
	}
	if sum > p.CPU+p.CPU/50 || sum < p.CPU-p.CPU/50 {
		t.Errorf("the threads' sum is %d ns, the process's %d", sum, p.CPU)
	}
}

func TestCgroup(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if c, err := readCgroup(root+"/a/b", "/a/b"); err == nil {
		t.Errorf("without a file: %+v", c)
	}
	for name, text := range map[string]string{"cpu.stat": "usage_usec 1234567\nuser_usec 1\n", "memory.current": "4096\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := readCgroup(root+"/a/b", "/a/b"); err != nil || *c != (Cgroup{Path: "/a/b", CPU: 1234567000, Memory: 4096}) {
		t.Errorf("%+v, %v", c, err)
	}
	for _, test := range []struct {
		cgroups []string
		want    string
	}{
		{nil, "/"},
		{[]string{"/"}, "/"},
		{[]string{"/vm"}, "/vm"},
		{[]string{"/vm/vcpu", "/vm/io", "/vm"}, "/vm"},
		{[]string{"/vm/vcpu", "/vm/vc"}, "/vm"},
		{[]string{"/a/b", "/c"}, "/"},
		{[]string{""}, "/"},
	} {
		list := []Thread{{State: "gone"}}
		for _, c := range test.cgroups {
			list = append(list, Thread{Cgroup: c})
		}
		if got := CommonCgroup(list); got != test.want {
			t.Errorf("%q: %q, want %q", test.cgroups, got, test.want)
		}
	}
}

func TestVhostBuffers(t *testing.T) {
	for _, test := range []struct {
		rings    int
		requests []int
		wantMiB  string
	}{
		{2, nil, "0.12"},           // a NIC
		{130, nil, "7.49"},         // vhost-scsi by default
		{130, []int{128}, "27.49"}, // in use
		{130, []int{1024}, "167.49"},
		{3, []int{32, 32}, "10.17"}, // max_io_vqs 1
	} {
		if got := fmt.Sprintf("%.2f", float64(VhostBuffers(test.rings, test.requests))/(1<<20)); got != test.wantMiB {
			t.Errorf("%d rings, %v: %s MiB, want %s", test.rings, test.requests, got, test.wantMiB)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("1 2 3\n")
	f.Add("VmRSS:\t  98 kB\n0::/a\n")
	f.Fuzz(func(t *testing.T, s string) {
		_, _, _ = parseSchedstat(s)
		_ = parseMemory(s)
	})
}
