package proof

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/vhost"
)

// isThrottled has two VMs send as fast as they can on the same CPU, one of them limited to a share
// of it. The other uses the rest. So the limited VM's share of the frames must equal its share of
// the CPU, whatever the speed of this machine, which changes all the time on an emulated one. For
// the same reason the median of many samples counts, and of more samples if the first ones are off.
func isThrottled(t *testing.T, m mode) string {
	const share, tolerance = 0.25, 0.15
	limited, lw, ls := sending(t, m)
	_, fw, fs := sending(t, m)
	var cpu0 unix.CPUSet
	cpu0.Set(0)
	for _, w := range []worker{lw, fw} {
		if err := unix.SchedSetaffinity(w.tid, &cpu0); err != nil {
			t.Fatal(err)
		}
	}
	limited.cgroup.Write("cpu.max", "5000 20000") // microseconds per period, both in us

	const look, fewLooks, manyLooks = 15 * 20 * time.Millisecond, 8, 40
	var cpu, frames []float64
	type state struct {
		time          time.Time
		usage         time.Duration
		limited, free int // frames
	}
	read := func() state {
		return state{time.Now(), limited.usage(), ls.tap.FromGuest(t), fs.tap.FromGuest(t)}
	}
	var ended atomic.Bool
	var filling sync.WaitGroup
	filling.Go(func() { fs.sendFor(func() bool { return !ended.Load() }) })
	begin := read()
	ls.sendFor(func() bool {
		now := read()
		took := now.time.Sub(begin.time)
		if took < look {
			return true
		}
		its, others := now.limited-begin.limited, now.free-begin.free
		cpu = append(cpu, (now.usage-begin.usage).Seconds()/took.Seconds())
		frames = append(frames, float64(its)/float64(its+others))
		begin = now
		return len(cpu) < fewLooks || len(cpu) < manyLooks && !(near(median(cpu), share, tolerance) && near(median(frames), share, tolerance))
	})
	ended.Store(true)
	filling.Wait()
	t.Logf("%.3f of the CPU, median %.3f", cpu, median(cpu))
	t.Logf("%.3f of the frames, median %.3f", frames, median(frames))
	if !near(median(cpu), share, tolerance) || !near(median(frames), share, tolerance) {
		return "another share"
	}
	return ""
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

func countsAsProcess(t *testing.T, m mode) string {
	const nobody = 65534
	p := startOwner(t, m, nobody)
	room := 0
	r := p.try(request{Nproc: &room, Own: vhost.NetPath})
	if r.Err == "" {
		return "it is not limited"
	}
	if want := fmt.Sprintf("RLIMIT_NPROC %d: uid %d has %[1]d tasks", r.Tasks, nobody); !strings.Contains(r.Err, want) {
		t.Errorf("the error is %q, want %q in it", r.Err, want)
	}
	room = 1
	p.do(request{Nproc: &room, Own: vhost.NetPath})
	if r := p.try(request{Own: vhost.NetPath}); !strings.Contains(r.Err, "RLIMIT_NPROC") {
		t.Errorf("starting a second worker: %q", r.Err)
	}
	return ""
}

// otherThreads counts the threads of an owner that are not workers.
func (p *process) otherThreads(w worker) (n int64) {
	for _, dir := range tasksIn(fmt.Sprintf("/proc/%d/task", w.pid)) {
		if dir != w.dir {
			n++
		}
	}
	return n
}

func countsInPids(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	w := p.own(vhost.NetPath)
	var more int64
	for again := true; again; { // Go may start a thread in between
		current := p.cgroup.Count("pids.current", "")
		more = current - p.otherThreads(w)
		again = current != p.cgroup.Count("pids.current", "")
	}
	switch more {
	case 0:
		return "it does not"
	case 1:
		return ""
	default:
		t.Fatalf("pids.current exceeds the number of threads by %d", more)
		return ""
	}
}

func refusedByPids(t *testing.T, m mode) string {
	p := startOwner(t, m, 0)
	limit := strconv.FormatInt(p.cgroup.Count("pids.current", ""), 10)
	p.cgroup.Write("pids.max", "%s", limit)
	r := p.try(request{Own: vhost.NetPath})
	if r.Err == "" {
		return "it is made"
	}
	if want := fmt.Sprintf("pids.max %s of cgroup %s: it has %[1]s tasks", limit, p.cgroup.Name); !strings.Contains(r.Err, want) {
		t.Errorf("the error is %q, want %q in it", r.Err, want)
	}
	return ""
}
