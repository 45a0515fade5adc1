package vmm

import (
	"strings"
	"testing"
	"time"

	"minivmm/vhost"
	"minivmm/vmm/config"
)

func TestWhatEachDiskWorkerServes(t *testing.T) {
	for _, c := range []struct {
		count, rings int
		want         []string
	}{
		{1, 1, []string{"control, event, requests"}},
		{1, 4, []string{"control, event, requests"}},
		{2, 2, []string{"control, event, request 0", "request 1"}},
		{2, 5, []string{"control, event, request 0, request 2, request 4", "request 1, request 3"}},
	} {
		for i, want := range c.want {
			if got := scsiQueues(i, c.count, c.rings); got != want {
				t.Errorf("worker %d of %d, %d rings: %q, want %q", i, c.count, c.rings, got, want)
			}
		}
	}
}

func TestSchedulingInTheKernelsTerms(t *testing.T) {
	for _, c := range []struct {
		s    config.Sched
		nice int
		want vhost.Sched
	}{
		{"other", 0, vhost.Sched{}},
		{"other", -20, vhost.Sched{Nice: -20}},
		{"batch", 19, vhost.Sched{Policy: vhost.Batch, Nice: 19}},
		{"idle", 0, vhost.Sched{Policy: vhost.Idle}},
		{"idle", 5, vhost.Sched{Policy: vhost.Idle}}, // has none, of an earlier policy's
		{"fifo:10", 5, vhost.Sched{Policy: vhost.FIFO, Priority: 10}},
		{"rr:1", 0, vhost.Sched{Policy: vhost.RR, Priority: 1}},
	} {
		got := schedOf(c.s, c.nice)
		if got != c.want {
			t.Errorf("%s, nice %d: %+v, want %+v", c.s, c.nice, got, c.want)
		}
		if want := string(c.s); !strings.HasPrefix(got.String(), want) {
			t.Errorf("%+v is %q for people, want %q", got, got, want)
		}
	}
}

func TestSettingsThatCannotBe(t *testing.T) {
	sched := func(s config.Sched) WorkerSettings { return WorkerSettings{Sched: &s} }
	nice := func(n int) WorkerSettings { return WorkerSettings{Nice: &n} }
	poll := func(d time.Duration) WorkerSettings { return WorkerSettings{BusyPoll: &d} }
	m := &VM{}
	for _, c := range []struct {
		s    WorkerSettings
		want string
	}{
		{nice(20), "nice 20 is not in -20 to 19"},
		{nice(-21), "nice -21 is not in -20 to 19"},
		{sched("deadline"), `"deadline" is not a policy`},
		{sched("fifo:100"), "wants a priority of 1 to 99"},
		{poll(-1), "is not a whole number of microseconds"},
		{poll(1500 * time.Nanosecond), "is not a whole number of microseconds"},
		{poll(time.Minute), "is not a whole number of microseconds up to 1s"},
		{sched("rr:5"), "the machine has no workers of the kernel"},
	} {
		if err := m.SetWorkers("", c.s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %s", c.s, err, c.want)
		}
	}
}
