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

// number returns the number of queues that q means on a machine with the given number of virtual
// CPUs. For QueuesAuto it returns at most auto.
func (q Queues) number(vcpus, auto int) int {
	if q == QueuesAuto {
		return min(vcpus, auto)
	}
	return int(q)
}

// QueuePairs returns the number of queue pairs of n, provided that the backend of n supports them.
func (c *Config) QueuePairs(n *Net) int { return n.Queues.number(c.Machine.VCPUs, autoNetQueues) }

// RequestQueues returns the number of request queues of the controller.
func (c *Config) RequestQueues() int {
	return c.SCSI.Queues.number(c.Machine.VCPUs, autoSCSIQueues)
}

var queueWords = []countWord[Queues]{{"auto", QueuesAuto}}

// UnmarshalText reads "auto", or a number from a flag.
func (q *Queues) UnmarshalText(b []byte) error { return readCount(q, string(b), queueWords) }

func (q *Queues) setNumber(n int64) error { return setCount(q, n) }

func (q Queues) String() string { return countText(q, queueWords) }

// MarshalTOML returns a number, or "auto" in quotes.
func (q Queues) MarshalTOML() ([]byte, error) { return numberOrWord(q.String()), nil }

// numbered is a type whose value is a number or a word.
type numbered interface{ setNumber(int64) error }

// countWord is a word for a number of queues or workers.
type countWord[T ~int] struct {
	word  string
	value T
}

// readCount reads one of the words, or a number.
func readCount[T ~int](v *T, text string, words []countWord[T]) error {
	var known []string
	for _, w := range words {
		if w.word == text {
			*v = w.value
			return nil
		}
		known = append(known, w.word)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return fmt.Errorf("%s is neither a number nor %s", quote(text), list(known))
	}
	return setCount(v, n)
}

func setCount[T ~int](v *T, n int64) error {
	if n < 1 || n > maxQueues {
		return fmt.Errorf("%d is out of range: want 1 to %d", n, maxQueues)
	}
	*v = T(n)
	return nil
}

func countText[T ~int](v T, words []countWord[T]) string {
	for _, w := range words {
		if w.value == v {
			return w.word
		}
	}
	return strconv.Itoa(int(v))
}

func numberOrWord(s string) []byte {
	if _, err := strconv.Atoi(s); err != nil {
		s = strconv.Quote(s)
	}
	return []byte(s)
}
