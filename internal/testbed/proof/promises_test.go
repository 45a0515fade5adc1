package proof

import (
	"errors"
	"flag"
	"slices"
	"testing"

	"minivmm/internal/testbed/vhosttest"
	"minivmm/vhost"
)

// mode is the kind of worker that SET_OWNER creates: a column of the table.
type mode int

const (
	oldKernel     mode = iota // the kernel has only kernel threads
	kthreadMode               // kernel threads, requested on a kernel that has both
	taskMode                  // threads of the process
	newestKthread             // as kthreadMode, on Linux 6.18 or later
	newestTask                // as taskMode, on Linux 6.18 or later
	modes
)

func (m mode) String() string {
	return [modes]string{"Linux 6.1", "Linux 6.12, kthread mode", "Linux 6.12, task mode", "newest Linux, kthread mode", "newest Linux, task mode"}[m]
}

// kthread reports whether kernel threads must be requested.
func (m mode) kthread() bool { return m == kthreadMode || m == newestKthread }

// theseModes are the modes of the running kernel.
func theseModes(t testing.TB) []mode {
	t.Helper()
	if !vhosttest.ThreadWorkers(t) {
		return []mode{oldKernel}
	}
	n, err := vhost.OpenNet()
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	switch err := n.SetForkFromOwner(true); {
	case err == nil && vhosttest.KernelSince(t, 6, 18):
		return []mode{newestKthread, newestTask}
	case err == nil:
		return []mode{kthreadMode, taskMode}
	case errors.Is(err, errors.ErrUnsupported):
		return []mode{taskMode}
	default:
		t.Fatal(err)
		return nil
	}
}

// Where a promise holds.
var (
	everywhere  = []mode{oldKernel, kthreadMode, taskMode, newestKthread, newestTask}
	inTaskMode  = []mode{taskMode, newestTask}
	sinceDirect = []mode{kthreadMode, taskMode, newestKthread, newestTask} // submit_type came with Linux 6.7
	nowhere     = []mode{}

	// Since Linux 6.18 a task is throttled when it returns to user mode, which no worker does
	// (kernel/sched/fair.c, task_throttle_setup_work).
	untilLazyThrottling = []mode{oldKernel, kthreadMode, taskMode}
)

// promise is a row of the table.
type promise struct {
	text  string
	how   string // how the promise is checked
	holds []mode // the modes in which it must hold; it must not hold in any other

	// check returns "" if the promise holds, and otherwise what was found instead, in words
	// that do not change from run to run.
	check func(t *testing.T, m mode) (instead string)
}

var promises = []promise{
	{"The worker is a thread of the VM's process", "it is in /proc/PID/task, with PF_USER_WORKER and without PF_KTHREAD among its flags", inTaskMode, isThread},
	{"It works in the process's memory", "kcmp(2) finds worker and process in one address space", everywhere, sharesMemory},
	{"It holds no files", "/proc/PID/task/TID/fd is empty", everywhere, holdsNoFiles},
	{"It is in the cgroup of the thread that made it", "that thread sits in a threaded cgroup, the rest of the process does not", everywhere, inCallersCgroup},
	{"It moves with the process to another cgroup", "the PID is written to that one's cgroup.procs", inTaskMode, movesWithProcess},
	{"cpu.max throttles its traffic", "of two VMs that send on one CPU one is limited to 25 %: it takes that share of the CPU and sends that share of the frames, within 15 %", untilLazyThrottling, isThrottled},
	{"cgroup.freeze stops its traffic, the thaw resumes it, nothing is lost", "frames are offered to the frozen VM: none moves, and after the thaw each arrives once", inTaskMode, isFrozen},
	{"It is in the namespaces of the thread that made it", "that thread has unshared uts, net, ipc, mnt and cgroup from the process's leader; links in /proc/PID/task/TID/ns", inTaskMode, inCallersNamespaces},
	{"It inherits the CPU affinity", "of a thread that is bound to one CPU", inTaskMode, inheritsAffinity},
	{"Its CPU affinity can be changed", "sched_setaffinity(2)", everywhere, changesAffinity},
	{"It inherits nice value and scheduling policy", "of a thread with nice 7 and SCHED_BATCH", inTaskMode, inheritsScheduling},
	{"It counts against RLIMIT_NPROC", "an ordinary user at the limit is refused, by an error that names it; one more allowed, there is one worker, and no second", inTaskMode, countsAsProcess},
	{"It counts in pids.current", "it is the one task more than the process's other threads", everywhere, countsInPids},
	{"pids.max refuses it", "SET_OWNER in a full cgroup fails with an error that names the limit", inTaskMode, refusedByPids},
	{"SIGSTOP stops its traffic, SIGCONT resumes it, nothing is lost", "as for cgroup.freeze", inTaskMode, isStopped},
	{"It dies with the process", "SIGKILL while another process has the vhost descriptor too; frames are offered", inTaskMode, diesWithProcess},
	{"SIGKILL leaves nothing behind", "after wait(2) no such task is left and the LIO endpoint takes another process", everywhere, leavesNothing},
	{"Its CPU time is the process's", "rusage from wait4(2), after traffic", inTaskMode, inRusage},
	{"Its CPU time is its cgroup's", "usage_usec in cpu.stat, over traffic", everywhere, inCPUStat},
	{"The threads' CPU times add up to the cgroup's", "sum over /proc/PID/task against cpu.stat, within 2 %", inTaskMode, addsUp},

	{"A disk's requests execute in the worker", "submit_type 1, which minivmm sets: of the CPU time of 8 MiB of writes the worker has at least two thirds, kworkers the rest", sinceDirect, directRuns},
	{"The page cache they fill is charged to the VM's cgroup", "submit_type 1: memory.stat", sinceDirect, directCharges},
	{"The block I/O they cause is the VM's cgroup's", "submit_type 1: io.stat, for a disk that is a block device", sinceDirect, directIO},
	{"They complete without a kworker", "submit_type 1: how often kworkers run while one request after the other is sent", nowhere, directAlone},
	{"A disk's requests execute in the worker with the kernel's default", "submit_type 0: as above", nowhere, defaultRuns},
	{"The page cache is charged to the VM's cgroup with the kernel's default", "submit_type 0: as above", nowhere, defaultCharges},
	{"The block I/O is the VM's cgroup's with the kernel's default", "submit_type 0: as above", nowhere, defaultIO},
}

var update = flag.Bool("update", false, "write the results to docs/workers.md")

// TestPromises checks every promise in every mode of this kernel: that each holds exactly where it
// should, and that docs/workers.md agrees.
func TestPromises(t *testing.T) {
	needWorkers(t)
	page := readPage(t)
	for _, m := range theseModes(t) {
		t.Run(m.String(), func(t *testing.T) {
			for i, p := range promises {
				t.Run(p.text, func(t *testing.T) {
					instead := p.check(t, m)
					if holds := instead == ""; holds != slices.Contains(p.holds, m) {
						t.Errorf("holds: %v, want %v; found: %s", holds, !holds, cell(instead))
					}
					if *update {
						page.rows[i].found[m] = cell(instead)
					} else if was := page.rows[i].found[m]; was != cell(instead) {
						t.Errorf("docs/workers.md has %q, this kernel %q; \"make docs-workers\" writes the page", was, cell(instead))
					}
				})
			}
		})
	}
	if *update {
		page.write(t)
	}
}
