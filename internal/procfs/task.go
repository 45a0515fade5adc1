// Package procfs reads process information from proc(5). It contains only what several packages of
// minivmm need, and returns texts and numbers without interpreting them.
//
// Functions that take a text accept any input. All functions are safe for concurrent use.
package procfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Stat holds fields of a task's /proc/PID/stat. CPU times are in nanoseconds, in steps of 10 ms.
type Stat struct {
	TID                 int
	Comm                string
	State               string // "R", "S", "D", "T", "Z", ...
	PPID                int
	Flags               uint64 // PF_* of linux/sched.h
	User, System, Guest uint64 // Guest is included in User
	Nice                int
	StartTime           uint64 // ticks after boot; distinguishes a task from a later task with the same id
	LastCPU             int
	Policy              int // SCHED_OTHER 0, SCHED_FIFO 1, ...
}

// Bits of a task's flags (linux/sched.h).
const (
	pfUserWorker = 0x00004000 // PF_USER_WORKER
	pfKthread    = 0x00200000 // PF_KTHREAD
)

// Kthread reports whether the task is a kernel thread.
func (s Stat) Kthread() bool { return s.Flags&pfKthread != 0 }

// UserWorker reports whether the task is a kernel worker that is a thread of a process.
func (s Stat) UserWorker() bool { return s.Flags&pfUserWorker != 0 && !s.Kthread() }

// tick is the unit of CPU time in /proc: 1/USER_HZ seconds. USER_HZ is 100 on x86-64.
const tick = 1_000_000_000 / 100

var errFormat = errors.New("unexpected format")

// ParseStat parses /proc/PID/stat (proc(5)). The name in parentheses may contain any characters.
func ParseStat(line string) (Stat, error) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 0 || end < open {
		return Stat{}, errFormat
	}
	// proc(5) numbers the fields: first is the first field after the name, last the last one read
	const first, last = 3, 43
	f := strings.Fields(line[end+1:])
	if len(f) <= last-first {
		return Stat{}, errFormat
	}
	var errs []error
	unsigned := func(field int) uint64 {
		n, err := strconv.ParseUint(f[field-first], 10, 64)
		errs = append(errs, err)
		return n
	}
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		errs = append(errs, err)
		return n
	}
	s := Stat{
		TID: number(strings.TrimSpace(line[:open])), Comm: line[open+1 : end], State: f[0], PPID: number(f[4-first]), Flags: unsigned(9),
		User: unsigned(14) * tick, System: unsigned(15) * tick, Guest: unsigned(43) * tick,
		Nice: number(f[19-first]), StartTime: unsigned(22), LastCPU: number(f[39-first]), Policy: number(f[41-first]),
	}
	if err := errors.Join(errs...); err != nil {
		return Stat{}, fmt.Errorf("%w: %w", errFormat, err)
	}
	return s, nil
}

// ReadStat reads the stat file in a task's folder: "/proc/12", "/proc/self/task/13".
func ReadStat(dir string) (Stat, error) {
	b, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return Stat{}, err
	}
	s, err := ParseStat(string(b))
	if err != nil {
		err = fmt.Errorf("%s/stat: %w", dir, err)
	}
	return s, err
}

// TaskIDs returns the ids of the tasks with a folder in dir: "/proc", "/proc/self/task".
func TaskIDs(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	var ids []int
	for _, e := range entries {
		if id, err := strconv.Atoi(e.Name()); err == nil {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// Field returns the value of "name: value" in a text like /proc/PID/status; "" if it is missing.
func Field(status, name string) string {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// ReadNumber returns the number in a kernel file such as "/proc/sys/kernel/pid_max". Any other
// text, such as "max", is an error.
func ReadNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// UserAbove returns the id that a user has in the parent of this process's user namespace. For root
// in a machine's own user namespace, that is the user who started the machine. initial reports
// whether this process is in the initial user namespace, which has no parent.
func UserAbove(uid int) (above int, initial bool) {
	text, _ := os.ReadFile("/proc/self/uid_map") // "" for a kernel without user namespaces
	return outer(string(text), uid)
}

// outer maps a uid to the parent user namespace. Each line of uidMap (user_namespaces(7)) has the
// first uid here, the first uid in the parent, and the length. initial is as in UserAbove.
func outer(uidMap string, uid int) (above int, initial bool) {
	for line := range strings.Lines(uidMap) {
		var here, there, length int
		if n, _ := fmt.Sscan(line, &here, &there, &length); n == 3 && uid >= here && uid-here < length {
			const all = 1<<32 - 1
			return uid - here + there, here == 0 && there == 0 && length == all
		}
	}
	return uid, uidMap == ""
}
