package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Workers configures the kernel threads that serve this machine.
type Workers struct {
	Affinity CPUSet      `toml:"affinity,omitempty"` // empty: any CPU
	Count    WorkerCount `toml:"count"`              // workers that serve the disks' request queues
	Nice     int         `toml:"nice,omitzero"`      // -20 to 19; for SchedOther and SchedBatch
	Sched    Sched       `toml:"sched"`
}

func (w *Workers) setDefaults() { *w = Workers{Count: CountAuto, Sched: SchedOther} }

// Limits of Workers.
const (
	minNice     = -20
	maxNice     = 19
	maxBusyPoll = time.Second
)

// WorkerCount is the number of workers that share a device's queues: 1 to 64, or one of the
// constants below.
type WorkerCount int

// Names of worker counts.
const (
	CountAuto     WorkerCount = -1 // CountShared for up to two request queues, else CountPerQueue if the kernel supports it
	CountPerQueue WorkerCount = -2 // one worker per request queue
	CountShared   WorkerCount = 1  // one worker for all queues
)

// Number returns the number of workers for the given number of request queues.
func (w WorkerCount) Number(queues int) int {
	const alone = 2 // one worker serves up to this many queues
	switch {
	case w == CountAuto && queues <= alone:
		return 1
	case w == CountAuto, w == CountPerQueue:
		return queues
	}
	return min(int(w), queues)
}

var workerWords = []countWord[WorkerCount]{{"auto", CountAuto}, {"shared", CountShared}, {"per-queue", CountPerQueue}}

// UnmarshalText reads one of the names, or a number from a flag.
func (w *WorkerCount) UnmarshalText(b []byte) error { return readCount(w, string(b), workerWords) }

func (w *WorkerCount) setNumber(n int64) error { return setCount(w, n) }

func (w WorkerCount) String() string { return countText(w, workerWords) }

// MarshalText returns the form that UnmarshalText reads.
func (w WorkerCount) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// MarshalTOML returns a number, or a name in quotes.
func (w WorkerCount) MarshalTOML() ([]byte, error) { return numberOrWord(w.String()), nil }

// Sched is a scheduling policy (sched(7)): "other", "batch", "idle", "fifo:N" or "rr:N" with a
// priority of 1 to 99.
type Sched string

// Policies without a priority.
const (
	SchedOther Sched = "other"
	SchedBatch Sched = "batch"
	SchedIdle  Sched = "idle"
)

// UnmarshalText checks the policy.
func (s *Sched) UnmarshalText(b []byte) error {
	v := Sched(b)
	switch name, priority, has := strings.Cut(string(b), ":"); {
	case v == SchedOther, v == SchedBatch, v == SchedIdle:
	case name != "fifo" && name != "rr":
		return fmt.Errorf(`%s is not a scheduling policy: write "other", "batch", "idle", "fifo:N" or "rr:N"`, quote(string(b)))
	default:
		n, err := strconv.ParseUint(priority, 10, 8)
		if !has || err != nil || n < 1 || n > 99 {
			return fmt.Errorf(`policy %s requires a priority from 1 to 99, like "%s:10"`, quote(string(b)), name)
		}
		v = Sched(name + ":" + strconv.FormatUint(n, 10))
	}
	*s = v
	return nil
}

// Split returns the policy's name and its priority, 0 if the policy has none.
func (s Sched) Split() (name string, priority int) {
	name, number, _ := strings.Cut(string(s), ":")
	priority, _ = strconv.Atoi(number)
	return name, priority
}

// Fair reports whether the policy uses a nice value.
func (s Sched) Fair() bool { return s == SchedOther || s == SchedBatch }

// workers checks the table [workers] and the other keys that configure kernel threads.
func (c *checker) workers(cfg *Config) {
	w := &cfg.Workers
	if c.given["workers.nice"] && !w.Sched.Fair() && !c.unread("workers.sched") {
		c.add(later(c.keyAt("workers.nice"), c.keyAt("workers.sched")), `workers.nice applies only to sched "other" and "batch", but sched is %q`, w.Sched)
	}
	for i := range cfg.Net {
		n, p := &cfg.Net[i], path("net").index(i)
		if !n.BusyPoll.pollable() {
			c.bad(p.key("busy_poll"), "%s is not a whole number of microseconds up to %s", n.BusyPoll, Duration{maxBusyPoll})
		}
		if n.Backend == NetUser && n.Queues > 1 {
			c.bad(p.key("queues"), "%s queue pairs require backend \"vhost\", but backend is %q, which has one", n.Queues, n.Backend)
		}
	}
}

// Tuning describes a change to the settings of a running machine's kernel workers. Its JSON values
// are in the format of the configuration file. A field that is empty or nil changes nothing.
type Tuning struct {
	Device   string      `json:"device,omitempty"` // "net0"; empty: every device
	Affinity CPUSet      `json:"affinity,omitempty"`
	Nice     *int        `json:"nice,omitempty,string"` // -20 to 19, for a policy with a nice value
	Sched    Sched       `json:"sched,omitempty"`       // a policy without a nice value sets nice to 0
	BusyPoll *Duration   `json:"busy_poll,omitempty"`   // whole microseconds up to 1 s; vhost-net only
	Count    WorkerCount `json:"count,omitempty"`       // number of vhost-scsi workers
}

// MisfitError reports a Tuning that is meant for workers that the machine does not have.
type MisfitError struct{ Problem string }

func (e *MisfitError) Error() string { return e.Problem }

// Check returns an error for a number that is out of range.
func (t Tuning) Check() error {
	if t.Nice != nil && (*t.Nice < minNice || *t.Nice > maxNice) {
		return fmt.Errorf("nice %d is out of range: want %d to %d", *t.Nice, minNice, maxNice)
	}
	if d := t.BusyPoll; d != nil && !d.pollable() {
		return fmt.Errorf("busy poll %v is not a whole number of microseconds up to %v", d, Duration{maxBusyPoll})
	}
	return nil
}

// pollable reports whether a worker can poll for the duration: VHOST_SET_VRING_BUSYLOOP_TIMEOUT is
// in microseconds.
func (d Duration) pollable() bool {
	return d.Duration >= 0 && d.Duration <= maxBusyPoll && d.Duration%time.Microsecond == 0
}
