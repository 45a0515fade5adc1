package proof

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// worker is a worker, as /proc shows it.
type worker struct {
	tid    int
	caller int    // the thread that created it
	pid    int    // the owner's process id
	dir    string // "/proc/PID/task/TID", or "/proc/TID" for a kernel thread
}

// isThread reports whether the worker is in the owner's list of threads.
func (w worker) isThread() bool { return strings.Contains(w.dir, "/task/") }

// callerDir returns the /proc folder of the thread that created the worker.
func (w worker) callerDir() string { return fmt.Sprintf("/proc/%d/task/%d", w.pid, w.caller) }

// leaderDir returns the /proc folder of the owner's leader.
func (w worker) leaderDir() string { return fmt.Sprintf("/proc/%d", w.pid) }

// findWorker finds the worker that a thread of process pid created, by the name that the kernel
// gives all of them. If there are several, it returns the newest.
func findWorker(t testing.TB, pid, caller int) worker {
	t.Helper()
	for _, parent := range []string{fmt.Sprintf("/proc/%d/task", pid), "/proc"} {
		var found worker
		var newest uint64
		for _, dir := range tasksIn(parent) {
			if comm(dir) != fmt.Sprintf("vhost-%d", caller) {
				continue
			}
			const startTime = 22
			if started := statNumber(t, dir, startTime); started >= newest {
				tid, _ := strconv.Atoi(dir[strings.LastIndexByte(dir, '/')+1:])
				newest, found = started, worker{tid: tid, caller: caller, pid: pid, dir: dir}
			}
		}
		if found.tid != 0 {
			return found
		}
	}
	t.Fatalf("no task is called vhost-%d", caller)
	return worker{}
}

// comm returns the name of a task, or "" if the task has exited.
func comm(dir string) string {
	b, _ := os.ReadFile(dir + "/comm")
	return strings.TrimSpace(string(b))
}

// tasksIn lists the folders of the tasks in a folder of /proc.
func tasksIn(parent string) []string {
	entries, _ := os.ReadDir(parent)
	var dirs []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			dirs = append(dirs, parent+"/"+e.Name())
		}
	}
	return dirs
}

// tasksOf counts the tasks of a real user id.
func tasksOf(uid int) (n int) {
	for _, dir := range tasksIn("/proc") {
		status, err := os.ReadFile(dir + "/status")
		if err != nil || !strings.HasPrefix(field(string(status), "Uid:"), fmt.Sprintf("%d\t", uid)) {
			continue
		}
		threads, _ := strconv.Atoi(field(string(status), "Threads:"))
		n += threads
	}
	return n
}

// field returns the text after a word at the beginning of a line.
func field(text, word string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, word); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// statNumber reads a field of a task's stat file (proc(5)), from field 4 on.
func statNumber(t testing.TB, dir string, number int) uint64 {
	t.Helper()
	stat := read(t, dir+"/stat")
	const first = 3 // number of the field after the name
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	n, err := strconv.ParseInt(fields[number-first], 10, 64)
	if err != nil {
		t.Fatalf("%s/stat: %v", dir, err)
	}
	return uint64(n)
}

// Bits of a task's flags (linux/sched.h) and the number of that field.
const (
	flagsField   = 9
	pfUserWorker = 0x00004000 // PF_USER_WORKER
	pfKthread    = 0x00200000 // PF_KTHREAD
)

// ran returns the CPU time that a worker has used.
func (w worker) ran(t testing.TB) time.Duration {
	t.Helper()
	return ran(read(t, w.dir+"/schedstat"))
}

// ran reads the first number of a schedstat file.
func ran(schedstat string) time.Duration {
	ns, _, _ := strings.Cut(schedstat, " ")
	n, _ := strconv.ParseInt(ns, 10, 64)
	return time.Duration(n)
}

// threadsRan returns the CPU time of all threads of a process.
func threadsRan(t testing.TB, pid int) (sum time.Duration) {
	t.Helper()
	for _, dir := range tasksIn(fmt.Sprintf("/proc/%d/task", pid)) {
		sum += ran(read(t, dir+"/schedstat"))
	}
	return sum
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func readlink(t testing.TB, path string) string {
	t.Helper()
	s, err := os.Readlink(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
