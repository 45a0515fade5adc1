package vhost

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
)

// limits are the figures that decide whether one more task may be made.
type limits struct {
	uid        int
	uidTasks   int    // tasks with that real uid
	nproc      uint64 // soft RLIMIT_NPROC; noLimit
	exempt     bool   // from RLIMIT_NPROC: root, CAP_SYS_RESOURCE or CAP_SYS_ADMIN
	cgroup     string // the cgroup with least room
	pids       uint64 // its pids.current
	pidsMax    uint64 // its pids.max; noLimit
	threads    uint64 // tasks on the host
	threadsMax uint64 // kernel.threads-max; noLimit if unknown
	pidMax     uint64 // kernel.pid_max, the first number that no task can have; noLimit if unknown
	elsewhere  bool   // the thread's children would be in another pid namespace, and threads cannot be
}

const noLimit = ^uint64(0)

// String names the limits that are reached, or all with their figures if none
// is.
func (l limits) String() string {
	nproc := fmt.Sprintf("RLIMIT_NPROC %s: uid %d has %d tasks", figure(l.nproc), l.uid, l.uidTasks)
	pids := fmt.Sprintf("pids.max %s of cgroup %s: it has %d tasks", figure(l.pidsMax), l.cgroup, l.pids)
	threads := fmt.Sprintf("kernel.threads-max %s: the host has %d tasks", figure(l.threadsMax), l.threads)
	if l.elsewhere {
		return "no worker can be made: the thread that asks for it has left its pid namespace (unshare or setns) for its children"
	}
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
	if l.pidMax != noLimit && l.threads+reservedPIDs >= l.pidMax {
		reached = append(reached, fmt.Sprintf("kernel.pid_max %d: the host has %d tasks", l.pidMax, l.threads))
	}
	if len(reached) > 0 {
		return "the worker is one task more than a limit allows; " + strings.Join(reached, "; ")
	}
	if l.exempt {
		nproc += " but is exempt"
	}
	return "the worker could not be made, though no limit looks reached; " + strings.Join([]string{nproc, pids, threads}, "; ")
}

// room is how many tasks more the limits allow, and which of them allows least.
func (l limits) room() (room uint64, tightest string) {
	room = noLimit
	nproc := l.nproc
	if l.exempt {
		nproc = noLimit
	}
	for _, x := range []struct {
		limit, used uint64
		text        string
	}{
		{nproc, uint64(l.uidTasks), fmt.Sprintf("RLIMIT_NPROC %d: uid %d has %d tasks", l.nproc, l.uid, l.uidTasks)},
		{l.pidsMax, l.pids, fmt.Sprintf("pids.max %d of cgroup %s: it has %d tasks", l.pidsMax, l.cgroup, l.pids)},
		{l.threadsMax, l.threads, fmt.Sprintf("kernel.threads-max %d: the host has %d tasks", l.threadsMax, l.threads)},
		{l.pidMax, l.threads + reservedPIDs, fmt.Sprintf("kernel.pid_max %d: the host has %d tasks", l.pidMax, l.threads)},
	} {
		left := x.limit - min(x.limit, x.used)
		if x.limit != noLimit && left < room {
			room, tightest = left, x.text
		}
	}
	return room, tightest
}

// reservedPIDs are not given out again once they were passed (RESERVED_PIDS of kernel/pid.c).
const reservedPIDs = 300

// RoomForTasks returns how many tasks (threads of this process, workers among
// them) may be made by the limits as they are now: RLIMIT_NPROC, pids.max of
// the calling thread's cgroups, kernel.threads-max and kernel.pid_max; and the
// limit that allows least, with its value and its use. If the number
// is at least enough, it may be more than is said. Other processes may be faster; and
// limits of cgroups and tasks of pid namespaces that this process does not see do not count.
func RoomForTasks(enough uint64) (room uint64, tightest string) {
	l := readFigures()
	l.uidTasks = int(l.threads) // at most; counting them takes a walk through /proc
	if room, tightest := l.room(); room >= enough {
		return room, tightest
	}
	l.uidTasks = tasksOf("/proc", l.uid)
	return l.room()
}

// TaskLimits says, for an error, which limit of tasks is reached, with its value
// and its use, or what all of them are.
func TaskLimits() string { return readLimits().String() }

func figure(n uint64) string {
	if n == noLimit {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// readLimits collects the figures as they are now. What cannot be read counts
// as no limit: this serves an error message, and must not hide the error.
func readLimits() limits {
	l := readFigures()
	l.uidTasks = tasksOf("/proc", l.uid)
	return l
}

// readFigures is readLimits but for the user's tasks.
func readFigures() limits {
	l := limits{uid: unix.Getuid(), nproc: noLimit, pidsMax: noLimit, threadsMax: noLimit, pidMax: noLimit}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &r) == nil {
		l.nproc = r.Cur // RLIM_INFINITY is noLimit
	}
	status, _ := os.ReadFile("/proc/thread-self/status")
	above, initial := procfs.RealUserAbove()
	l.exempt = above == 0 || initial && hasNprocCap(string(status))
	cgroup, _ := os.ReadFile("/proc/thread-self/cgroup")
	if mount, below, err := procfs.FindController("pids", string(cgroup)); err == nil {
		l.cgroup, l.pids, l.pidsMax = pidsLimit(mount, below)
	}
	if n, err := readNumber("/proc/sys/kernel/threads-max"); err == nil {
		l.threadsMax = n
	}
	if n, err := readNumber("/proc/sys/kernel/pid_max"); err == nil {
		l.pidMax = n
	}
	own, err := os.Readlink("/proc/thread-self/ns/pid")
	children, err2 := os.Readlink("/proc/thread-self/ns/pid_for_children")
	l.elsewhere = err == nil && (err2 != nil || own != children)
	loadavg, _ := os.ReadFile("/proc/loadavg")
	l.threads = loadavgTasks(string(loadavg))
	return l
}

// hasNprocCap says whether a task's status shows an effective capability that
// lifts RLIMIT_NPROC.
func hasNprocCap(status string) bool {
	caps, _ := strconv.ParseUint(procfs.Field(status, "CapEff"), 16, 64)
	return caps&(1<<unix.CAP_SYS_RESOURCE|1<<unix.CAP_SYS_ADMIN) != 0
}

// tasksOf counts the tasks of a real uid, which is what RLIMIT_NPROC counts
// but for other user namespaces.
func tasksOf(proc string, uid int) int {
	ids, _ := procfs.TaskIDs(proc)
	n := 0
	for _, id := range ids {
		b, err := os.ReadFile(proc + "/" + strconv.Itoa(id) + "/status")
		if err != nil {
			continue
		}
		ruid, _, _ := strings.Cut(procfs.Field(string(b), "Uid"), "\t")
		if ruid != strconv.Itoa(uid) {
			continue
		}
		threads, _ := strconv.Atoi(procfs.Field(string(b), "Threads"))
		n += threads
	}
	return n
}

// pidsLimit walks from a cgroup to the root and returns the figures of the one
// that has least room, or no limit. The root of a container may have one too.
func pidsLimit(root, cgroup string) (path string, current, limit uint64) {
	path, limit = cgroup, noLimit
	least := noLimit
	for dir, more := strings.TrimSuffix(cgroup, "/"), true; more; {
		at := dir
		if more = dir != ""; more {
			dir = dir[:strings.LastIndexByte(dir, '/')]
		}
		m, err := readNumber(root + at + "/pids.max")
		if err != nil {
			continue // "max", or no pids controller here
		}
		c, err := readNumber(root + at + "/pids.current")
		if err != nil {
			continue
		}
		if left := m - min(m, c); left < least {
			path, current, limit, least = cmp.Or(at, "/"), c, m, left
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
