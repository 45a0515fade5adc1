package account

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bits of a task's flags (linux/sched.h).
const (
	pfUserWorker = 0x00004000 // PF_USER_WORKER: a worker of the kernel's that is a thread of a process
	pfKthread    = 0x00200000 // PF_KTHREAD
)

// tick is what /proc counts CPU time in: a second has USER_HZ of them, 100 on every Linux for x86-64.
const tick = 1_000_000_000 / 100

var errFormat = errors.New("unexpected format")

// stat is what this package takes from /proc/PID/stat.
type stat struct {
	comm                string
	state               string // "R", "S", "D", "T", "Z", ...
	ppid                int
	flags               uint64
	user, system, guest uint64 // ns; guest is a part of user
	nice                int
	policy              int // SCHED_OTHER 0, SCHED_FIFO 1, ...
	lastCPU             int
}

// parseStat reads the line of /proc/PID/stat (proc(5)). The name in parentheses may hold anything.
func parseStat(s string) (st stat, err error) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return stat{}, errFormat
	}
	// first is the number of the first field after the name, as proc(5) counts
	const first, last = 3, 43
	f := strings.Fields(s[end+1:])
	if len(f) <= last-first {
		return stat{}, errFormat
	}
	number := func(field int) uint64 {
		n, e := strconv.ParseUint(f[field-first], 10, 64)
		err = errors.Join(err, e)
		return n
	}
	signed := func(field int) int {
		n, e := strconv.Atoi(f[field-first])
		err = errors.Join(err, e)
		return n
	}
	st = stat{
		comm: s[open+1 : end], state: f[0], ppid: signed(4), flags: number(9),
		user: number(14) * tick, system: number(15) * tick, guest: number(43) * tick,
		nice: signed(19), policy: signed(41), lastCPU: signed(39),
	}
	if err != nil {
		return stat{}, fmt.Errorf("%w: %w", errFormat, err)
	}
	return st, nil
}

// parseSchedstat reads /proc/PID/schedstat: nanoseconds on a CPU, nanoseconds waiting for one, and how often it ran.
func parseSchedstat(s string) (run, wait uint64, err error) {
	f := strings.Fields(s)
	if len(f) < 2 {
		return 0, 0, errFormat
	}
	run, err1 := strconv.ParseUint(f[0], 10, 64)
	wait, err2 := strconv.ParseUint(f[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("%w: %w", errFormat, err)
	}
	return run, wait, nil
}

// field returns the value of a line "name: value", as /proc/PID/status has them; "" without such a line.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// numberField is field for a number, which a unit may follow; 0 without one.
func numberField(text, name string) uint64 {
	digits, _, _ := strings.Cut(field(text, name), " ")
	n, _ := strconv.ParseUint(digits, 10, 64)
	return n
}
