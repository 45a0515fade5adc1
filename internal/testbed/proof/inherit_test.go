package proof

import (
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/vhosttest"
	"minivmm/vhost"
)

// prepared is an owner whose thread got special properties before it created a worker.
func prepared(t *testing.T, m mode, th thread) worker {
	t.Helper()
	p := startOwner(t, m, 0)
	p.do(request{Prepare: &th})
	return p.own(vhost.NetPath)
}

func inCallersCgroup(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	threads := p.cgroup.Child("threads")
	t.Cleanup(p.kill) // before the cgroup is removed
	threads.Write("cgroup.type", "threaded")
	p.do(request{Prepare: &thread{Cgroup: threads.Path("cgroup.threads")}})
	w := p.own(vhost.NetPath)
	if leader := field(read(t, w.leaderDir()+"/cgroup"), "0::"); leader != p.cgroup.Name {
		t.Fatalf("the leader is in %s, want %s", leader, p.cgroup.Name)
	}
	if its := field(read(t, w.dir+"/cgroup"), "0::"); its != threads.Name {
		t.Logf("worker in %s, its maker in %s", its, threads.Name)
		return "another one"
	}
	return ""
}

func movesWithProcess(t *testing.T, m mode) string {
	other := vhosttest.NewCgroup(t)
	p := startOwner(t, m, 0)
	w := p.own(vhost.NetPath)
	other.Write("cgroup.procs", "%d", w.pid)
	switch its := field(read(t, w.dir+"/cgroup"), "0::"); its {
	case other.Name:
		return ""
	case p.cgroup.Name:
		return "it stays behind"
	default:
		t.Fatalf("it is in %s", its)
		return ""
	}
}

func inCallersNamespaces(t *testing.T, m mode) string {
	w := prepared(t, m, thread{Unshare: unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP})
	const kthreadd = "/proc/2"
	hosts := 0
	for ns, own := range map[string]bool{"uts": true, "net": true, "ipc": true, "mnt": true, "cgroup": true, "pid": false, "user": false, "time": false} {
		callers, leaders, its := readlink(t, w.callerDir()+"/ns/"+ns), readlink(t, w.leaderDir()+"/ns/"+ns), readlink(t, w.dir+"/ns/"+ns)
		if own == (callers == leaders) {
			t.Fatalf("%s: the thread has %s, the leader %s", ns, callers, leaders)
		}
		if its != callers {
			if host := readlink(t, kthreadd+"/ns/"+ns); its != host {
				t.Fatalf("%s: worker %s, its creator %s, the leader %s, the host %s", ns, its, callers, leaders, host)
			}
			hosts++
		}
	}
	switch hosts {
	case 0:
		return ""
	case 5:
		return "in the host's"
	default:
		return "in the host's in part"
	}
}

func inheritsAffinity(t *testing.T, m mode) string {
	w := prepared(t, m, thread{CPU: 0})
	if its := field(read(t, w.dir+"/status"), "Cpus_allowed_list:"); its != "0" {
		t.Logf("it may run on %s", its)
		return "it may run on others"
	}
	return ""
}

func changesAffinity(t *testing.T, m mode) string {
	w := prepared(t, m, thread{})
	for cpu, name := range []string{"0", "1"} {
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(w.tid, &set); err != nil {
			t.Log(err)
			return "it cannot"
		}
		if its := field(read(t, w.dir+"/status"), "Cpus_allowed_list:"); its != name {
			t.Logf("it may run on %s, want %s", its, name)
			return "it does not obey"
		}
	}
	return ""
}

func inheritsScheduling(t *testing.T, m mode) string {
	const nice, schedBatch = 7, 3 // SCHED_BATCH (linux/sched.h)
	w := prepared(t, m, thread{Nice: nice, Policy: schedBatch})
	const niceField, policyField = 19, 41
	itsNice, policy := statNumber(t, w.dir, niceField), statNumber(t, w.dir, policyField)
	if itsNice != nice || policy != schedBatch {
		t.Logf("nice %d, policy %d", itsNice, policy)
		return "the defaults"
	}
	return ""
}
