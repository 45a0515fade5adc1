package proof

import (
	"math"
	"slices"
	"syscall"
	"testing"
	"time"
)

// accounted is how much CPU time the worker uses before the test reads the accounts.
const accounted = 500 * time.Millisecond

// near reports whether got differs from want by at most that fraction of want.
func near(got, want, tolerance float64) bool {
	return math.Abs(got-want) <= want*tolerance
}

func inRusage(t *testing.T, m mode) string {
	p, w, s := sending(t, m)
	s.busy(w, accounted)
	its, others := w.ran(t), threadsRan(t, w.pid)
	if slices.Contains(inTaskMode, m) {
		others -= its
	}
	p.kill()
	u := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	process := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	t.Logf("worker %v, the process's other threads %v, process %v", its, others, process)
	if process < others+its*98/100 {
		return "it is not in it"
	}
	return ""
}

// usage returns the CPU time of the owner's cgroup.
func (p *process) usage() time.Duration {
	return time.Duration(p.cgroup.Count("cpu.stat", "usage_usec")) * time.Microsecond
}

func inCPUStat(t *testing.T, m mode) string {
	p, w, s := sending(t, m)
	usage, its := p.usage(), w.ran(t)
	s.busy(w, accounted)
	its = w.ran(t) - its
	usage = p.usage() - usage
	t.Logf("worker %v, cgroup %v", its, usage)
	if usage < its*98/100 {
		return "it is not in it"
	}
	return ""
}

// addsUp reads the cgroup's account on both sides of each reading of the threads: the first thread is
// read a few milliseconds before the last, while the worker runs.
func addsUp(t *testing.T, m mode) string {
	p, w, s := sending(t, m)
	before, threads, after := p.usage(), threadsRan(t, w.pid), p.usage()
	s.busy(w, accounted)
	least := p.usage() - after
	threads = threadsRan(t, w.pid) - threads
	most := p.usage() - before
	t.Logf("threads %v, cgroup between %v and %v", threads, least, most)
	if threads < least*98/100 || threads > most*102/100 {
		return "the worker's is missing"
	}
	return ""
}
