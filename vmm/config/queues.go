package config

import (
	"fmt"
	"strconv"
)

// Queues is the number of queues of a device: 1 to 64, or QueuesAuto.
type Queues int

// QueuesAuto is one queue per virtual CPU, up to a bound that depends on the device.
const QueuesAuto Queues = -1

// Bounds of QueuesAuto. A queue pair of a network card costs one host task and, with Linux in the
// guest, 1 MiB of guest memory. A request queue costs 20 MiB of host kernel memory at the default
// queue_size.
const (
	autoNetQueues  = 8
	autoSCSIQueues = 4
)

// number returns the number of queues of a machine with vcpus virtual CPUs. QueuesAuto gives at
// most auto.
func (q Queues) number(vcpus, auto int) int {
	if q == QueuesAuto {
		return min(vcpus, auto)
	}
	return int(q)
}

// QueuePairs returns the number of queue pairs of n, provided its backend supports them.
func (c *Config) QueuePairs(n *Net) int { return n.Queues.number(c.Machine.VCPUs, autoNetQueues) }

// RequestQueues returns the number of request queues of the controller.
func (c *Config) RequestQueues() int {
	return c.SCSI.Queues.number(c.Machine.VCPUs, autoSCSIQueues)
}

// UnmarshalText reads "auto", or a number from a flag.
func (q *Queues) UnmarshalText(b []byte) error {
	if string(b) == "auto" {
		*q = QueuesAuto
		return nil
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf(`%s is neither a number nor "auto"`, quote(string(b)))
	}
	return q.setNumber(n)
}

func (q *Queues) setNumber(n int64) error {
	if n < 1 || n > maxQueues {
		return fmt.Errorf("%d is out of range: want 1 to %d", n, maxQueues)
	}
	*q = Queues(n)
	return nil
}

func (q Queues) String() string {
	if q == QueuesAuto {
		return "auto"
	}
	return strconv.Itoa(int(q))
}

// MarshalTOML returns a number, or "auto" in quotes.
func (q Queues) MarshalTOML() ([]byte, error) { return numberOrWord(q.String()), nil }

func (Queues) sample() string { return "auto" }

// numbered is a type whose value is a number or a word.
type numbered interface{ setNumber(int64) error }

func numberOrWord(s string) []byte {
	if _, err := strconv.Atoi(s); err != nil {
		s = strconv.Quote(s)
	}
	return []byte(s)
}
