package config

import (
	"fmt"
	"strconv"
)

// Queues is how many queues of a kind a device has: 1 to 64, or QueuesAuto.
type Queues int

// QueuesAuto is one for each virtual CPU, up to a bound that the device knows.
const QueuesAuto Queues = -1

// Bounds of QueuesAuto. A queue pair of a network card costs a task of the host and, with Linux in the guest, 1 MiB of the
// guest's memory; a request queue costs 20 MiB of the host's kernel memory at the default queue_size.
const (
	autoNetQueues  = 8
	autoSCSIQueues = 4
)

// Number is how many that is for a machine of so many virtual CPUs, with at most auto of them for QueuesAuto.
func (q Queues) number(vcpus, auto int) int {
	if q == QueuesAuto {
		return min(vcpus, auto)
	}
	return int(q)
}

// QueuePairs is how many queue pairs the card has, if its backend can have them.
func (c *Config) QueuePairs(n *Net) int { return n.Queues.number(c.Machine.VCPUs, autoNetQueues) }

// RequestQueues is how many request queues the controller has.
func (c *Config) RequestQueues() int {
	return c.SCSI.Queues.number(c.Machine.VCPUs, autoSCSIQueues)
}

// UnmarshalText reads the word, or a number where all values are text.
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
		return fmt.Errorf(`%d is not in 1 to %d`, n, maxQueues)
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

// MarshalTOML is a number, or the word in quotes.
func (q Queues) MarshalTOML() ([]byte, error) { return numberOrWord(q.String()), nil }

func (Queues) sample() string { return "auto" }

// numbered is a type that is written as a number or as a word.
type numbered interface{ setNumber(int64) error }

func numberOrWord(s string) []byte {
	if _, err := strconv.Atoi(s); err != nil {
		s = strconv.Quote(s)
	}
	return []byte(s)
}
