package account

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
)

// Kind is the purpose of a thread.
type Kind string

// The kinds of threads. A [Role] can also be of kind Ended.
const (
	VCPU    Kind = "vcpu"    // runs a virtual CPU
	Worker  Kind = "worker"  // a vhost worker: serves a device's queues, in the kernel
	KVM     Kind = "kvm"     // KVM's own thread, which recovers huge pages
	Minivmm Kind = "minivmm" // minivmm itself, with its in-process devices
	Ended   Kind = "ended"   // threads of the process that have exited
)

// Thread is one thread that works for a VM. Times are in nanoseconds since the thread started.
type Thread struct {
	TID    int    `json:"tid"`
	Comm   string `json:"comm"`
	Kind   Kind   `json:"kind"`
	Role   string `json:"role"`             // "vcpu 0", "net0", "kvm", "minivmm"
	Queues string `json:"queues,omitempty"` // served by a worker: "receive, transmit"

	// Kthread is set for a kernel thread, and not for a thread of the process.
	Kthread bool `json:"kthread"`

	State   string `json:"state"` // as in /proc/PID/stat: "S"; "gone" if the thread has exited unexpectedly
	Usage          // user and system in steps of 10 ms; user includes guest mode
	Wait    uint64 `json:"wait_ns"`  // runnable, waiting for a CPU
	Guest   uint64 `json:"guest_ns"` // in guest mode; in steps of 10 ms
	LastCPU int    `json:"last_cpu"`
	CPUs    string `json:"allowed_cpus"` // "0-3,8"
	Nice    int    `json:"nice"`
	Policy  string `json:"policy"` // "other", "fifo", ...
	Cgroup  string `json:"cgroup"` // in the unified hierarchy; "" on a host without it
}

// Threads returns the threads of this process and the kernel threads in the list known. For each
// thread in this list, the caller sets TID (0 if /proc does not show the thread), Kthread, Kind,
// Role and Queues. The result starts with the threads of the list, in the same order; KVM's thread
// and other workers follow, and then minivmm's own threads by ID. A thread of the list that has
// exited has the state "gone". The argument recovery is the ID of KVM's thread if KVM's thread is a
// kernel thread ([FindRecovery]), else 0.
func Threads(known []Thread, recovery int) ([]Thread, error) {
	return threads("/proc", known, recovery)
}

func threads(proc string, known []Thread, recovery int) ([]Thread, error) {
	if recovery != 0 {
		known = append(slices.Clone(known), Thread{TID: recovery, Kthread: true, Kind: KVM, Role: "kvm"})
	}
	var list []Thread
	tasks := filepath.Join(proc, "self", "task")
	seen := make(map[int]bool)
	for _, k := range known {
		dir := tasks
		if k.Kthread {
			dir = proc
		}
		t, err := readThread(dir, k.TID)
		if k.TID == 0 || gone(err) {
			t, err = Thread{TID: k.TID, State: "gone"}, nil
		}
		if err != nil {
			return nil, err
		}
		t.Kind, t.Role, t.Queues, t.Kthread = k.Kind, k.Role, k.Queues, k.Kthread
		list = append(list, t)
		seen[k.TID] = seen[k.TID] || !k.Kthread
	}
	tids, err := procfs.TaskIDs(tasks)
	if err != nil {
		return nil, err
	}
	var own []Thread
	for _, tid := range tids {
		if seen[tid] {
			continue
		}
		t, err := readThread(tasks, tid)
		switch {
		case gone(err):
		case err != nil:
			return nil, err
		case t.Kind == Minivmm:
			own = append(own, t)
		default:
			list = append(list, t)
		}
	}
	return append(list, own...), nil
}

// gone reports whether a thread exited before all of its files were read.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// readThread reads the files of a thread below dir, which is /proc or /proc/self/task.
func readThread(dir string, tid int) (Thread, error) {
	dir = filepath.Join(dir, strconv.Itoa(tid))
	text := make(map[string]string)
	for _, name := range []string{"stat", "schedstat", "status", "cgroup"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if name == "schedstat" && errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without CONFIG_SCHED_INFO
		}
		if err != nil {
			return Thread{}, err
		}
		text[name] = string(b)
	}
	st, err := procfs.ParseStat(text["stat"])
	if err != nil {
		return Thread{}, fmt.Errorf("%s/stat: %w", dir, err)
	}
	status := text["status"]
	slept, preempted := numberField(status, "voluntary_ctxt_switches"), numberField(status, "nonvoluntary_ctxt_switches")
	t := Thread{
		TID: tid, Comm: st.Comm, State: st.State, Guest: st.Guest,
		Usage:   Usage{st.User + st.System, st.User, st.System, slept, preempted},
		LastCPU: st.LastCPU, CPUs: procfs.Field(status, "Cpus_allowed_list"),
		Nice: st.Nice, Policy: policy(st.Policy), Cgroup: procfs.UnifiedCgroup(text["cgroup"]),
	}
	if s := text["schedstat"]; s != "" {
		if t.CPU, t.Wait, err = parseSchedstat(s); err != nil {
			return Thread{}, fmt.Errorf("%s/schedstat: %w", dir, err)
		}
	}
	t.Kind, t.Role = classify(st)
	return t, nil
}

// parseSchedstat parses /proc/PID/schedstat. It returns how many nanoseconds the thread ran on a
// CPU, and how many it waited for a CPU.
func parseSchedstat(s string) (run, wait uint64, err error) {
	if _, err := fmt.Sscan(s, &run, &wait); err != nil {
		return 0, 0, fmt.Errorf("unexpected format: %w", err)
	}
	return run, wait, nil
}

// classify returns the kind and role of a thread whose ID package vmm has not recorded.
func classify(st procfs.Stat) (Kind, string) {
	switch {
	case !st.UserWorker():
		return Minivmm, "minivmm"
	case strings.HasPrefix(st.Comm, "kvm-nx-lpage-re"): // the kernel truncates the names of threads
		return KVM, "kvm"
	}
	return Worker, st.Comm
}

func policy(n int) string {
	names := [...]string{unix.SCHED_NORMAL: "other", unix.SCHED_FIFO: "fifo", unix.SCHED_RR: "rr", unix.SCHED_BATCH: "batch", unix.SCHED_IDLE: "idle", unix.SCHED_DEADLINE: "deadline"}
	if n < 0 || n >= len(names) || names[n] == "" {
		return strconv.Itoa(n)
	}
	return names[n]
}

// FindRecovery returns the ID of the kernel thread that recovers huge pages for a VM. The argument
// maker is the ID of the thread in this process that created the VM. FindRecovery returns 0 if
// there is no such kernel thread (since Linux 6.13, or 6.12.14), or if /proc does not show it (in a
// PID namespace).
func FindRecovery(maker int) int { return findRecovery("/proc", maker) }

func findRecovery(proc string, maker int) int {
	name := fmt.Sprintf("kvm-nx-lpage-recovery-%d", maker) // since Linux 5.17 /proc shows the whole name
	const kthreadd = 2
	tids, _ := procfs.TaskIDs(proc)
	for _, tid := range tids {
		st, err := procfs.ReadStat(filepath.Join(proc, strconv.Itoa(tid)))
		if err == nil && st.Kthread() && st.PPID == kthreadd && st.Comm == name {
			return tid
		}
	}
	return 0
}
