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

// limits holds the limits on the number of tasks, and the usage of each.
type limits struct {
	uid        int
	uidTasks   int    // tasks whose real user ID is uid
	nproc      uint64 // soft RLIMIT_NPROC; noLimit if unlimited
	exempt     bool   // exempt from RLIMIT_NPROC: root, CAP_SYS_RESOURCE or CAP_SYS_ADMIN
	cgroup     string // the cgroup with the least room left
	pids       uint64 // its pids.current
	pidsMax    uint64 // its pids.max; noLimit if unlimited
	threads    uint64 // tasks on the host
	threadsMax uint64 // kernel.threads-max; noLimit if unknown
	pidMax     uint64 // kernel.pid_max, the first id that no task can have; noLimit if unknown
	elsewhere  bool   // the thread's children belong to another pid namespace, so it cannot create threads
}

const noLimit = ^uint64(0)

// reservedPIDs is how many of the lowest ids the kernel no longer assigns once the ids have wrapped
// around (RESERVED_PIDS in kernel/pid.c).
const reservedPIDs = 300

// limit is one limit on the number of tasks.
type limit struct {
	most, used uint64
	text       string
}

// all returns RLIMIT_NPROC, pids.max, threads-max and pid_max.
func (l limits) all() [4]limit {
	nproc := limit{l.nproc, uint64(l.uidTasks), fmt.Sprintf("RLIMIT_NPROC %s: uid %d has %d tasks", figure(l.nproc), l.uid, l.uidTasks)}
	if l.exempt {
		nproc.most, nproc.text = noLimit, nproc.text+" but is exempt"
	}
	return [...]limit{
		nproc,
		{l.pidsMax, l.pids, fmt.Sprintf("pids.max %s of cgroup %s: it has %d tasks", figure(l.pidsMax), l.cgroup, l.pids)},
		{l.threadsMax, l.threads, fmt.Sprintf("kernel.threads-max %s: the host has %d tasks", figure(l.threadsMax), l.threads)},
		{l.pidMax, l.threads + reservedPIDs, fmt.Sprintf("kernel.pid_max %s: the host has %d tasks", figure(l.pidMax), l.threads)},
	}
}

// String returns the limits that are reached, with their values and usage. If no limit is reached,
// it returns RLIMIT_NPROC, pids.max and threads-max.
func (l limits) String() string {
	if l.elsewhere {
		return "the calling thread cannot create a worker: its children belong to another pid namespace (unshare or setns)"
	}
	var all, reached []string
	for _, x := range l.all() {
		all = append(all, x.text)
		if x.used >= x.most {
			reached = append(reached, x.text)
		}
	}
	if len(reached) > 0 {
		return "a task limit is reached: " + strings.Join(reached, "; ")
	}
	return "no task limit appears to be reached: " + strings.Join(all[:3], "; ")
}

// room returns how many more tasks the limits allow, and the tightest limit.
func (l limits) room() (room uint64, tightest string) {
	room = noLimit
	for _, x := range l.all() {
		if left := x.most - min(x.most, x.used); x.most != noLimit && left < room {
			room, tightest = left, x.text
		}
	}
	return room, tightest
}

// RoomForTasks returns how many more tasks (threads of this process, including workers) can be
// created under the current limits: RLIMIT_NPROC, pids.max of the calling thread's cgroups,
// kernel.threads-max and kernel.pid_max. It also returns the tightest limit, with its value and
// usage. If the returned room is not less than the argument enough, the true room may be larger: to
// save time, RoomForTasks then does not count the user's tasks in /proc. The result is an estimate:
// other processes may create tasks at the same time, and cgroups and pid namespaces that this
// process cannot see are not counted.
func RoomForTasks(enough uint64) (room uint64, tightest string) {
	l := readFigures()
	l.uidTasks = int(l.threads) // an upper bound; the exact number requires a walk through /proc
	if room, tightest := l.room(); room >= enough {
		return room, tightest
	}
	l.uidTasks = tasksOf("/proc", l.uid)
	return l.room()
}

// TaskLimits returns text for an error message: the task limits that are reached, with their values
// and usage. If no limit is reached, the text has all limits except pid_max. A value that cannot be
// read counts as no limit, so as not to hide the original error.
func TaskLimits() string {
	l := readFigures()
	l.uidTasks = tasksOf("/proc", l.uid)
	return l.String()
}

func figure(n uint64) string {
	if n == noLimit {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// readFigures reads the current limits and their usage, except uidTasks.
func readFigures() limits {
	l := limits{uid: unix.Getuid(), nproc: noLimit, pidsMax: noLimit, threadsMax: noLimit, pidMax: noLimit}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &r) == nil {
		l.nproc = r.Cur // RLIM_INFINITY is noLimit
	}
	status, _ := os.ReadFile("/proc/thread-self/status")
	above, initial := procfs.UserAbove(os.Getuid())
	l.exempt = above == 0 || initial && hasNprocCap(string(status))
	cgroup, _ := os.ReadFile("/proc/thread-self/cgroup")
	if mount, below, err := procfs.FindController("pids", string(cgroup)); err == nil {
		l.cgroup, l.pids, l.pidsMax = pidsLimit(mount, below)
	}
	for name, most := range map[string]*uint64{"threads-max": &l.threadsMax, "pid_max": &l.pidMax} {
		if n, err := procfs.ReadNumber("/proc/sys/kernel/" + name); err == nil {
			*most = n
		}
	}
	own, err := os.Readlink("/proc/thread-self/ns/pid")
	children, err2 := os.Readlink("/proc/thread-self/ns/pid_for_children")
	l.elsewhere = err == nil && (err2 != nil || own != children)
	loadavg, _ := os.ReadFile("/proc/loadavg")
	l.threads = loadavgTasks(string(loadavg))
	return l
}

// hasNprocCap reports whether a task's status shows an effective capability that exempts the task
// from RLIMIT_NPROC.
func hasNprocCap(status string) bool {
	caps, _ := strconv.ParseUint(procfs.Field(status, "CapEff"), 16, 64)
	return caps&(1<<unix.CAP_SYS_RESOURCE|1<<unix.CAP_SYS_ADMIN) != 0
}

// tasksOf counts the tasks whose real user ID is uid, as the kernel does for RLIMIT_NPROC. The two
// counts differ for tasks in other user namespaces.
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

// pidsLimit walks from a cgroup up to the root. It returns the path, usage and limit of the cgroup
// with the least room; the limit is noLimit if no cgroup has one. The walk includes the root,
// because the root cgroup of a container may have a limit.
func pidsLimit(root, cgroup string) (path string, current, limit uint64) {
	path, limit = cgroup, noLimit
	least := noLimit
	for dir, more := strings.TrimSuffix(cgroup, "/"), true; more; {
		at := dir
		if more = dir != ""; more {
			dir = dir[:strings.LastIndexByte(dir, '/')]
		}
		m, err := procfs.ReadNumber(root + at + "/pids.max")
		if err != nil {
			continue // "max", or no pids controller
		}
		c, err := procfs.ReadNumber(root + at + "/pids.current")
		if err != nil {
			continue
		}
		if left := m - min(m, c); left < least {
			path, current, limit, least = cmp.Or(at, "/"), c, m, left
		}
	}
	return path, current, limit
}

// loadavgTasks returns the number of tasks on the host. s is the text of /proc/loadavg, which has
// this number after the slash in the fourth field.
func loadavgTasks(s string) uint64 {
	fields := strings.Fields(s)
	if len(fields) < 4 {
		return 0
	}
	_, total, _ := strings.Cut(fields[3], "/")
	n, _ := strconv.ParseUint(total, 10, 64)
	return n
}
