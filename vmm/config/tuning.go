package config

import (
	"fmt"
	"time"
)

// Tuning is a change to how the kernel's workers of a running machine run, as Go value and as JSON.
// Values are those of a configuration file. What is empty or nil stays as it is.
type Tuning struct {
	Device   string      `json:"device,omitempty"` // "net0"; empty: every device
	Affinity CPUSet      `json:"affinity,omitempty"`
	Nice     *int        `json:"nice,omitempty,string"` // -20 to 19, for a policy that has one
	Sched    Sched       `json:"sched,omitempty"`       // a policy without a nice value sets that to 0
	BusyPoll *Duration   `json:"busy_poll,omitempty"`   // whole microseconds up to 1 s; vhost-net's only
	Count    WorkerCount `json:"count,omitempty"`       // of vhost-scsi's workers
}

// Check returns an error for a number that is out of its range.
func (t Tuning) Check() error {
	if t.Nice != nil && (*t.Nice < minNice || *t.Nice > maxNice) {
		return fmt.Errorf("nice %d is not in %d to %d", *t.Nice, minNice, maxNice)
	}
	if d := t.BusyPoll; d != nil && !d.pollable() {
		return fmt.Errorf("busy poll %v is not a whole number of microseconds up to %v", d, Duration{maxBusyPoll})
	}
	return nil
}

// pollable says whether a worker can look for work for so long: VHOST_SET_VRING_BUSYLOOP_TIMEOUT
// takes microseconds.
func (d Duration) pollable() bool {
	return d.Duration >= 0 && d.Duration <= maxBusyPoll && d.Duration%time.Microsecond == 0
}
