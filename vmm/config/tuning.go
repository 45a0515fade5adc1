package config

import (
	"fmt"
	"time"
)

// Tuning changes the settings of a running machine's kernel workers, as Go value and as JSON.
// Values are in the format of the configuration file. A field that is empty or nil is unchanged.
type Tuning struct {
	Device   string      `json:"device,omitempty"` // "net0"; empty: every device
	Affinity CPUSet      `json:"affinity,omitempty"`
	Nice     *int        `json:"nice,omitempty,string"` // -20 to 19, for a policy with a nice value
	Sched    Sched       `json:"sched,omitempty"`       // a policy without a nice value sets nice to 0
	BusyPoll *Duration   `json:"busy_poll,omitempty"`   // whole microseconds up to 1 s; vhost-net only
	Count    WorkerCount `json:"count,omitempty"`       // number of vhost-scsi workers
}

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
