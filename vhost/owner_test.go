package vhost

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/ioctl"
	"minivmm/internal/procfs"
)

func TestWorkerIsFoundAmongNewThreads(t *testing.T) {
	const worker = 0x404040 // as in Linux 6.12
	before := []int{10, 11, 12}
	goThread := procfs.Stat{TID: 20, Comm: "minivmm", Flags: 0x400040}
	old := procfs.Stat{TID: 12, Comm: "vhost-10", Flags: worker}
	for _, test := range []struct {
		name  string
		after []procfs.Stat
		want  int
		err   error
	}{
		{"alone", []procfs.Stat{{TID: 21, Comm: "vhost-10", Flags: worker}}, 21, nil},
		{"with Go's new threads", []procfs.Stat{goThread, {TID: 21, Comm: "vhost-10", Flags: worker}}, 21, nil},
		{"with an older worker of the same thread", []procfs.Stat{old, {TID: 21, Comm: "vhost-10", Flags: worker}}, 21, nil},
		{"with another thread's new worker", []procfs.Stat{{TID: 21, Comm: "vhost-11", Flags: worker}, {TID: 22, Comm: "vhost-10", Flags: worker}}, 22, nil},
		{"in a pid namespace", []procfs.Stat{{TID: 21, Comm: "vhost-4711", Flags: worker}}, 21, nil},
		{"two in a pid namespace", []procfs.Stat{{TID: 21, Comm: "vhost-4711", Flags: worker}, {TID: 22, Comm: "vhost-4712", Flags: worker}}, 0, errAmbiguous},
		{"a thread that took the name", []procfs.Stat{{TID: 21, Comm: "vhost-10", Flags: 0x400040}}, 0, errNoWorker},
		{"KVM's own", []procfs.Stat{{TID: 21, Comm: "kvm-nx-lpage-re", Flags: worker}}, 0, errNoWorker},
		{"none", []procfs.Stat{old, goThread}, 0, errNoWorker},
	} {
		w, err := newWorkerTask(before, test.after, 10)
		if w.TID != test.want || !errors.Is(err, test.err) || w.Kthread {
			t.Errorf("%s: got %+v, %v; want TID %d, %v", test.name, w, err, test.want, test.err)
		}
	}
}

func TestNewestKthreadIsTheWorker(t *testing.T) {
	const kthread = 0x208040
	all := []procfs.Stat{
		{TID: 300, PPID: 2, Comm: "vhost-10", Flags: kthread, StartTime: 50},
		{TID: 301, PPID: 2, Comm: "vhost-10", Flags: kthread, StartTime: 70},
		{TID: 200, PPID: 2, Comm: "vhost-10", Flags: kthread, StartTime: 80}, // ids wrap around
		{TID: 400, PPID: 2, Comm: "vhost-11", Flags: kthread, StartTime: 90},
		{TID: 500, PPID: 1, Comm: "vhost-10", Flags: 0x400000, StartTime: 90},
	}
	if w := kthreadWorker(all, 10); w.TID != 200 || !w.Kthread || w.Comm != "vhost-10" {
		t.Errorf("got %+v, want 200", w)
	}
	w := kthreadWorker(nil, 10)
	if w.TID != 0 || !w.Kthread {
		t.Errorf("got %+v, want an invisible kthread", w)
	}
	if err := w.SetAffinity([]int{0}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("affinity of an invisible kthread: %v, want unsupported", err)
	}
}

func TestOwnerCallIsRetriedAndSignalsAreRestored(t *testing.T) {
	var before, during, after unix.Sigset_t
	read := func(s *unix.Sigset_t) {
		if err := unix.PthreadSigmask(unix.SIG_SETMASK, nil, s); err != nil {
			t.Error(err)
		}
	}
	calls := 0
	d := (&fakeKernel{}).device()
	d.hook = func(r ioctl.Request, _ any) error {
		read(&during)
		if calls++; calls < attempts {
			return &os.PathError{Op: r.Name, Path: "/dev/fake", Err: unix.ENOMEM}
		}
		return nil
	}
	lockThread(t)
	read(&before)
	if err := d.withSignalsBlocked(d.SetOwner); err != nil || calls != attempts {
		t.Errorf("%v after %d calls", err, calls)
	}
	read(&after)
	const all = ^uint64(1<<(unix.SIGKILL-1) | 1<<(unix.SIGSTOP-1))
	if during.Val[0] != all || before != after {
		t.Errorf("mask before %x, during %x, after %x", before.Val[0], during.Val[0], after.Val[0])
	}
}

func TestLimitsNameTheCause(t *testing.T) {
	free := limits{uid: 1000, uidTasks: 5, nproc: 100, cgroup: "/a", pids: 5, pidsMax: noLimit, threads: 50, threadsMax: 1000, pidMax: noLimit}
	for _, test := range []struct {
		change func(*limits)
		room   uint64
		want   string
	}{
		{func(l *limits) { l.uidTasks = 100 }, 0,
			"a task limit is reached: RLIMIT_NPROC 100: uid 1000 has 100 tasks"},
		{func(l *limits) { l.pidsMax = 5 }, 0,
			"a task limit is reached: pids.max 5 of cgroup /a: it has 5 tasks"},
		{func(l *limits) { l.threads = 1001 }, 0,
			"a task limit is reached: kernel.threads-max 1000: the host has 1001 tasks"},
		{func(l *limits) { l.pidMax = 350 }, 0,
			"a task limit is reached: kernel.pid_max 350: the host has 50 tasks"},
		{func(l *limits) { l.uidTasks, l.pidsMax = 100, 4 }, 0,
			"a task limit is reached: RLIMIT_NPROC 100: uid 1000 has 100 tasks; pids.max 4 of cgroup /a: it has 5 tasks"},
		{func(l *limits) { l.elsewhere = true }, 95,
			"the calling thread cannot create a worker: its children belong to another pid namespace (unshare or setns)"},
		{func(l *limits) { l.pidsMax = 12 }, 7,
			"no task limit appears to be reached: RLIMIT_NPROC 100: uid 1000 has 5 tasks; " +
				"pids.max 12 of cgroup /a: it has 5 tasks; kernel.threads-max 1000: the host has 50 tasks"},
		{func(l *limits) { l.exempt, l.uidTasks = true, 200 }, 950,
			"no task limit appears to be reached: RLIMIT_NPROC 100: uid 1000 has 200 tasks but is exempt; " +
				"pids.max unlimited of cgroup /a: it has 5 tasks; kernel.threads-max 1000: the host has 50 tasks"},
	} {
		l := free
		test.change(&l)
		if got := l.String(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
		got, tightest := l.room()
		if got != test.room {
			t.Errorf("%+v: room for %d, want %d", l, got, test.room)
		}
		if !strings.Contains(test.want, tightest) && !l.elsewhere {
			t.Errorf("tightest is %q, not in %q", tightest, test.want)
		}
	}
}

func TestPidsLimitIsTheTightestUpToTheRoot(t *testing.T) {
	root := t.TempDir()
	put := func(dir, current, limit string) {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]string{"pids.current": current, "pids.max": limit} {
			if err := os.WriteFile(filepath.Join(root, dir, name), []byte(s+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	put("", "5", "100") // a container's root
	put("a", "10", "10")
	put("a/b", "3", "20")
	put("a/b/c", "2", "max")
	put("x", "2", "9")
	put("x/y", "1", "5")
	for _, test := range []struct {
		cgroup, path   string
		current, limit uint64
	}{
		{"/a/b/c", "/a", 10, 10},
		{"/x/y", "/x/y", 1, 5},
		{"/", "/", 5, 100},
		{"", "/", 5, 100},
		{"/gone", "/", 5, 100},
	} {
		path, current, limit := pidsLimit(root, test.cgroup)
		if path != test.path || current != test.current || limit != test.limit {
			t.Errorf("%s: got %s %d %d, want %s %d %d", test.cgroup, path, current, limit, test.path, test.current, test.limit)
		}
	}
}

func TestReadLimitsOfThisProcess(t *testing.T) {
	l := readFigures()
	if tasksOf("/proc", l.uid) < 1 || l.threads < 1 || l.threadsMax == noLimit {
		t.Errorf("%+v", l)
	}
}
