package vhost

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// limits are the figures that decide whether one more task may be made.
type limits struct {
	uid        int
	uidTasks   int    // tasks with that real uid
	nproc      uint64 // soft RLIMIT_NPROC; noLimit
	exempt     bool   // from RLIMIT_NPROC: root, CAP_SYS_RESOURCE or CAP_SYS_ADMIN
	cgroup     string // the nearest cgroup that is full, else the nearest with a limit
	pids       uint64 // its pids.current
	pidsMax    uint64 // its pids.max; noLimit
	threads    uint64 // tasks on the host
	threadsMax uint64 // kernel.threads-max; noLimit if unknown
}

const noLimit = ^uint64(0)

// String names the limits that are reached, or all with their figures if none
// is.
func (l limits) String() string {
	nproc := fmt.Sprintf("RLIMIT_NPROC %s: uid %d has %d tasks", figure(l.nproc), l.uid, l.uidTasks)
	pids := fmt.Sprintf("pids.max %s of cgroup %s: it has %d tasks", figure(l.pidsMax), l.cgroup, l.pids)
	threads := fmt.Sprintf("kernel.threads-max %s: the host has %d tasks", figure(l.threadsMax), l.threads)
	var reached []string
	if !l.exempt && uint64(l.uidTasks) >= l.nproc {
		reached = append(reached, nproc)
	}
	if l.pids >= l.pidsMax {
		reached = append(reached, pids)
	}
	if l.threads >= l.threadsMax {
		reached = append(reached, threads)
	}
	if len(reached) > 0 {
		return "the worker is one task more than a limit allows; " + strings.Join(reached, "; ")
	}
	if l.exempt {
		nproc += " but is exempt"
	}
	return "the worker could not be made, though no limit looks reached; " + strings.Join([]string{nproc, pids, threads}, "; ")
}

func figure(n uint64) string {
	if n == noLimit {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// readLimits collects the figures as they are now. What cannot be read counts
// as no limit: this serves an error message, and must not hide the error.
func readLimits() limits {
	l := limits{uid: unix.Getuid(), nproc: noLimit, pidsMax: noLimit, threadsMax: noLimit}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &r) == nil {
		l.nproc = r.Cur // RLIM_INFINITY is noLimit
	}
	status, _ := os.ReadFile("/proc/thread-self/status")
	l.exempt = l.uid == 0 || hasNprocCap(string(status))
	l.uidTasks = tasksOf("/proc", l.uid)
	cgroup, _ := os.ReadFile("/proc/thread-self/cgroup")
	l.cgroup, l.pids, l.pidsMax = pidsLimit("/sys/fs/cgroup", unifiedCgroup(string(cgroup)))
	if n, err := readNumber("/proc/sys/kernel/threads-max"); err == nil {
		l.threadsMax = n
	}
	loadavg, _ := os.ReadFile("/proc/loadavg")
	l.threads = loadavgTasks(string(loadavg))
	return l
}

// hasNprocCap says whether a task's status shows an effective capability that
// lifts RLIMIT_NPROC.
func hasNprocCap(status string) bool {
	caps, _ := strconv.ParseUint(statusField(status, "CapEff"), 16, 64)
	return caps&(1<<unix.CAP_SYS_RESOURCE|1<<unix.CAP_SYS_ADMIN) != 0
}

// tasksOf counts the tasks of a real uid, which is what RLIMIT_NPROC counts
// but for other user namespaces.
func tasksOf(proc string, uid int) int {
	entries, _ := os.ReadDir(proc)
	n := 0
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		b, err := os.ReadFile(proc + "/" + e.Name() + "/status")
		if err != nil {
			continue
		}
		ruid, _, _ := strings.Cut(statusField(string(b), "Uid"), "\t")
		if ruid != strconv.Itoa(uid) {
			continue
		}
		threads, _ := strconv.Atoi(statusField(string(b), "Threads"))
		n += threads
	}
	return n
}

// pidsLimit walks from a cgroup to the root and returns the figures of the
// first that is full, else of the first that has a limit, else no limit.
func pidsLimit(root, cgroup string) (path string, current, limit uint64) {
	path, limit = cgroup, noLimit
	for dir := cgroup; len(dir) > 1; dir = dir[:strings.LastIndexByte(dir, '/')] {
		m, err := readNumber(root + dir + "/pids.max")
		if err != nil {
			continue // "max", or no pids controller here
		}
		c, err := readNumber(root + dir + "/pids.current")
		if err != nil {
			continue
		}
		if c >= m {
			return dir, c, m
		}
		if limit == noLimit {
			path, current, limit = dir, c, m
		}
	}
	return path, current, limit
}

// loadavgTasks returns the number of tasks on the host from /proc/loadavg: the
// second half of its fourth field.
func loadavgTasks(s string) uint64 {
	fields := strings.Fields(s)
	if len(fields) < 4 {
		return 0
	}
	_, total, _ := strings.Cut(fields[3], "/")
	n, _ := strconv.ParseUint(total, 10, 64)
	return n
}

func readNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}
