package vmm

import (
	"strings"
	"testing"

	"minivmm/vhost"
	"minivmm/vmm/config"
)

func TestQueuesOfEachDiskWorker(t *testing.T) {
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
			w := Worker{Rings: diskRings(i, c.count, c.rings), place: placement{rings: 2 + c.rings}}
			if got := w.Serves(); got != want {
				t.Errorf("worker %d of %d, %d rings: %q, want %q", i, c.count, c.rings, got, want)
			}
		}
	}
}

func TestSchedOf(t *testing.T) {
	for _, c := range []struct {
		s    config.Sched
		nice int
		want vhost.Sched
	}{
		{"other", 0, vhost.Sched{}},
		{"other", -20, vhost.Sched{Nice: -20}},
		{"batch", 19, vhost.Sched{Policy: vhost.Batch, Nice: 19}},
		{"idle", 0, vhost.Sched{Policy: vhost.Idle}},
		{"idle", 5, vhost.Sched{Policy: vhost.Idle}}, // idle has no nice value: that of an earlier policy is dropped
		{"fifo:10", 5, vhost.Sched{Policy: vhost.FIFO, Priority: 10}},
		{"rr:1", 0, vhost.Sched{Policy: vhost.RR, Priority: 1}},
	} {
		got := schedOf(c.s, c.nice)
		if got != c.want {
			t.Errorf("%s, nice %d: %+v, want %+v", c.s, c.nice, got, c.want)
		}
		if want := string(c.s); !strings.HasPrefix(got.String(), want) {
			t.Errorf("%+v prints as %q, want %q", got, got, want)
		}
	}
}

func TestQueuesOfEachNetworkWorker(t *testing.T) {
	for _, c := range []struct {
		rings []int
		of    int
		want  string
	}{
		{[]int{0, 1}, 2, "receive, transmit"},
		{[]int{0, 1}, 4, "receive 0, transmit 0"},
		{[]int{2, 3}, 4, "receive 1, transmit 1"},
	} {
		if got := (Worker{Rings: c.rings, place: placement{nic: true, rings: c.of}}).Serves(); got != c.want {
			t.Errorf("rings %v of %d: %q, want %q", c.rings, c.of, got, c.want)
		}
	}
}

func TestTuneErrors(t *testing.T) {
	m := &VM{}
	for want, tuning := range map[string]config.Tuning{
		"nice 20 is out of range: want -20 to 19": {Nice: new(20)},
		"the machine has no kernel workers":       {Sched: "rr:5"},
	} {
		if err := m.Tune(tuning); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", tuning, err, want)
		}
	}
}
