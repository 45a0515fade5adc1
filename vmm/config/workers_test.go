package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestQueuesAndWorkersAreParsed(t *testing.T) {
	for _, c := range []struct{ text, problem string }{
		{"[[net]]\nqueues = 64\n[scsi]\nqueues = 'auto'\n[workers]\ncount = 3\nsched = 'fifo:99'", ""},
		{"[[net]]\nqueues = 'all'", `3:10: error: net[0].queues: "all" is neither a number nor "auto"`},
		{"[[net]]\nqueues = 65", "3:10: error: net[0].queues: 65 is out of range: want 1 to 64"},
		{"[[net]]\nqueues = true", `net[0].queues must be a string like "auto", not true`},
		{"[workers]\ncount = 0", "workers.count: 0 is out of range: want 1 to 64"},
		{"[workers]\ncount = 'one'", `workers.count: "one" is neither a number nor "auto", "shared" or "per-queue"`},
		{"[workers]\nnice = 20", "workers.nice: 20 is out of range: want -20 to 19"},
		{"[workers]\nnice = 5\nsched = 'batch'", ""},
		{"[workers]\nsched = 'idle'\ncount = 'shared'", ""},
		{"[workers]\nnice = 5\nsched = 'idle'", `4:1: error: workers.nice applies only to sched "other" and "batch", but sched is "idle"`},
		{"[workers]\nsched = 'fifo'", `policy "fifo" requires a priority from 1 to 99, like "fifo:10"`},
		{"[workers]\nsched = 'rr:0'", `policy "rr:0" requires a priority from 1 to 99`},
		{"[workers]\nsched = 'deadline'", `"deadline" is not a scheduling policy`},
		{"[[net]]\nbusy_poll = '50us'", ""},
		{"[[net]]\nbusy_poll = '10ns'", "net[0].busy_poll: 10ns is not a whole number of microseconds up to 1s"},
		{"[[net]]\nbusy_poll = '2s'", "net[0].busy_poll: 2s is not a whole number of microseconds up to 1s"},
		{"[scsi]\nbusy_poll = '50us'", "unknown key \"busy_poll\" in scsi; it belongs in [[net]]"},
		{"[[net]]\nbackend = 'user'\nqueues = 'auto'", ""},
		{"[[net]]\nbackend = 'user'\nqueues = 2", `4:10: error: net[0].queues: 2 queue pairs require backend "vhost", but backend is "user"`},
		{"[[net]]\nbackend = 'user'\naffinity = '0'", `net[0].affinity applies only to backend "vhost"`},
		{"[[net]]\nbackend = 'user'\nbusy_poll = '1ms'", `net[0].busy_poll applies only to backend "vhost"`},
	} {
		cfg, err := parseTest(boot + c.text)
		if err == nil {
			if again, err := parseTest(string(cfg.TOML())); err != nil || !reflect.DeepEqual(again, cfg) {
				t.Errorf("%s\nTOML output: %v\n%s", c.text, err, cfg.TOML())
			}
		}
		if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s\n%v, want %s", c.text, err, c.problem)
		}
	}
}

func TestAutoFollowsTheVirtualCPUs(t *testing.T) {
	for _, c := range []struct {
		text        string
		pairs, scsi int
	}{
		{"", 1, 1},
		{"machine.vcpus = 4\n", 1, 1},
		{"net = [{queues = 'auto'}]\nscsi.queues = 'auto'\n", 1, 1},
		{"machine.vcpus = 3\nnet = [{queues = 'auto'}]\nscsi.queues = 'auto'\n", 3, 3},
		{"machine.vcpus = 64\nnet = [{queues = 'auto'}]\nscsi.queues = 'auto'\n", 8, 4},
		{"net = [{queues = 5}]\nscsi.queues = 64\n", 5, 64},
	} {
		text := c.text
		if !strings.Contains(text, "net =") {
			text += "[[net]]\n"
		}
		cfg, err := parseTest(boot + text)
		if err != nil {
			t.Fatal(err)
		}
		if p, s := cfg.QueuePairs(&cfg.Net[0]), cfg.RequestQueues(); p != c.pairs || s != c.scsi {
			t.Errorf("%s: %d pairs, %d request queues; want %d, %d", c.text, p, s, c.pairs, c.scsi)
		}
	}
}

func TestWorkerCount(t *testing.T) {
	for _, c := range []struct {
		count        WorkerCount
		queues, want int
	}{
		{CountAuto, 1, 1}, {CountAuto, 2, 1}, {CountAuto, 3, 3}, {CountAuto, 64, 64},
		{CountShared, 4, 1}, {CountPerQueue, 1, 1}, {CountPerQueue, 2, 2},
		{2, 4, 2}, {8, 4, 4},
	} {
		if got := c.count.Number(c.queues); got != c.want {
			t.Errorf("count %v, %d queues: %d workers, want %d", c.count, c.queues, got, c.want)
		}
	}
}
