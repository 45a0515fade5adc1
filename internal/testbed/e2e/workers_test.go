package e2e

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vhosttest"
	"minivmm/internal/testbed/vmmtest"
)

// TestVerboseShowsTheWorkersAsTheyAre runs a machine in a cgroup of its own, with its workers bound
// to CPU 0, and compares the printed workers with /proc. At the end the guest obeys the power
// button.
func TestVerboseShowsTheWorkersAsTheyAre(t *testing.T) {
	testenv.Need(t, "vhost-net", "vhost-scsi", "root")
	leavesNothing(t)
	dir, cgroup := newCgroup(t)
	m := prepare(t, "", "[workers]\naffinity = '0'\n[[net]]\nid = 'lan'\n[[net]]\nid = 'wan'\n[[disk]]\npath = 'disk.img'\n")
	m.cmd.Args = append(m.cmd.Args, "--verbose")
	m.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	m.start()
	m.expect(`next\?`)

	pid := m.cmd.Process.Pid
	line := regexp.MustCompile(`(?m)^minivmm: worker (\S+) \(([a-z, ]+)\): (thread|kernel thread) (\d+) (\S+), cgroup (\S+), CPUs (\S+)$`)
	workers := line.FindAllStringSubmatch(m.log.String(), -1)
	if len(workers) != 3 {
		t.Fatalf("stderr is %q, want a line for each of three workers", m.log)
	}
	threads := threadWorkers(t)
	seen := map[string]bool{}
	for i, want := range []struct{ device, queues string }{
		{"lan", "receive, transmit"}, {"wan", "receive, transmit"}, {"scsi0", "control, event, requests"},
	} {
		device, queues, kind, tid, comm, group, cpus := workers[i][1], workers[i][2], workers[i][3], workers[i][4], workers[i][5], workers[i][6], workers[i][7]
		if device != want.device || queues != want.queues || seen[tid] {
			t.Errorf("worker %d is %q, want a thread of its own for the queues %s of %s", i, workers[i][0], want.queues, want.device)
		}
		seen[tid] = true
		task := "/proc/" + tid
		if threads {
			task = fmt.Sprintf("/proc/%d/task/%s", pid, tid)
		}
		if isThread := kind == "thread"; isThread != threads {
			t.Errorf("worker %s is a %s", device, kind)
		}
		flags := taskFlags(t, task)
		const userWorker, kthread = 0x4000, 0x200000 // PF_USER_WORKER, PF_KTHREAD (linux/sched.h)
		if threads && (flags&userWorker == 0 || flags&kthread != 0) || !threads && flags&kthread == 0 {
			t.Errorf("worker %s is a %s with task flags %#x", device, kind, flags)
		}
		for _, fact := range []struct{ what, printed, real, want string }{
			{"comm", comm, strings.TrimSpace(readFile(t, task+"/comm")), comm},
			{"cgroup", group, lastField(t, task+"/cgroup", "0::"), cgroup},
			{"CPUs", cpus, lastField(t, task+"/status", "Cpus_allowed_list:"), "0"},
		} {
			if fact.printed != fact.real || fact.real != fact.want {
				t.Errorf("worker %s: %s is printed as %q and is %q, want %q", device, fact.what, fact.printed, fact.real, fact.want)
			}
		}
	}
	if own := lastField(t, fmt.Sprintf("/proc/%d/status", pid), "Cpus_allowed_list:"); own != lastField(t, "/proc/self/status", "Cpus_allowed_list:") {
		t.Errorf("the program has the affinity of the workers: %s", own)
	}

	m.order("button", "at the button")
	m.signal(syscall.SIGTERM)
	m.expect(vmmtest.OK)
	m.exits(0)
	m.says("terminated: pressed the guest's power button")
}

// newCgroup creates a cgroup for the test and returns its folder, open, and its name.
func newCgroup(t *testing.T) (dir *os.File, name string) {
	t.Helper()
	c := vhosttest.NewCgroup(t)
	return c.Open(), c.Name
}

// threadWorkers reports whether this kernel's vhost workers are threads of the
// process: since Linux 6.4.
func threadWorkers(t *testing.T) bool {
	t.Helper()
	return vhosttest.ThreadWorkers(t)
}

// taskFlags reads field 9 of a task's stat (proc(5)).
func taskFlags(t *testing.T, task string) uint64 {
	t.Helper()
	stat := readFile(t, task+"/stat")
	flags, err := strconv.ParseUint(strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])[6], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return flags
}

// lastField returns the text after prefix on the last such line of a file.
func lastField(t *testing.T, path, prefix string) string {
	t.Helper()
	for line := range strings.Lines(readFile(t, path)) {
		if value, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("%s has no line with %q", path, prefix)
	return ""
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
