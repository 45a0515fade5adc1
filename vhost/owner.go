package vhost

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Worker is the thread that serves a device's rings, or some of them.
type Worker struct {
	// ID is the device's number for it: 0 is the one that SetOwner made.
	ID uint32

	// TID is its thread id. 0 if it is a kernel thread that /proc does not
	// show, as in a pid namespace.
	TID int

	// Kthread says that it is a kernel thread and not a thread of this
	// process: Linux before 6.4, or SetForkFromOwner(false).
	Kthread bool

	// Comm is its name, "vhost-" and the thread id of whoever called SetOwner,
	// as the initial pid namespace numbers it.
	Comm string
}

// attempts bounds the calls that make a worker and end in ENOMEM. With
// signals blocked one is still too few: a thread that is being frozen or
// stopped cannot be copied either, and the next system call after the thaw can.
const attempts = 3

// SetOwnerHere makes this process the owner, asks for a thread of its own as
// worker, and finds it. The worker inherits affinity, nice value, cgroup,
// namespaces and credentials from the calling goroutine's thread: if these
// matter the caller has locked the goroutine to its thread and set them
// before, and is not a vCPU's. Signals are blocked on the thread during the
// call, because a pending one would make it fail.
//
// An error that matches ENOMEM says which limit is the likely cause. When
// SET_OWNER worked but the worker cannot be found, the error says so and the
// device has to be closed.
func (d *Device) SetOwnerHere() (Worker, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	err := d.SetForkFromOwner(true)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return Worker{}, err
	}
	mustFork := err == nil

	w, err := d.findMade(d.SetOwner)
	if !errors.Is(err, errNoWorker) || mustFork {
		return w, err
	}
	all, err := readTasks("/proc")
	return kthreadWorker(all, unix.Gettid()), err
}

// NewWorkerHere makes another worker, as NewWorker does, and finds it. What
// SetOwnerHere says of the calling thread and of ENOMEM holds here too. Where
// the kernel has one worker a device the error matches errors.ErrUnsupported.
func (d *Device) NewWorkerHere() (Worker, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var id uint32
	w, err := d.findMade(func() (err error) {
		id, err = d.NewWorker()
		return err
	})
	if err != nil && id != 0 { // it was made, and cannot be found
		err = errors.Join(err, d.FreeWorker(id))
	}
	w.ID = id
	return w, err
}

// findMade calls make, which makes a worker of the calling thread, and finds
// the worker: errNoWorker if the process has no new one.
func (d *Device) findMade(make func() error) (Worker, error) {
	before, err := taskSet()
	if err != nil {
		return Worker{}, err
	}
	if err := d.undisturbed(make); err != nil {
		if errors.Is(err, unix.ENOMEM) {
			err = fmt.Errorf("%w (%s)", err, readLimits())
		}
		return Worker{}, err
	}
	after, err := readTasks("/proc/self/task")
	if err != nil {
		return Worker{}, err
	}
	w, err := newWorkerTask(before, after, unix.Gettid())
	if err != nil {
		err = fmt.Errorf("%s: %w", d.f.Name(), err)
	}
	return w, err
}

// undisturbed calls make with all signals of the thread blocked, again if it
// ends in ENOMEM.
func (d *Device) undisturbed(make func() error) (err error) {
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return &os.PathError{Op: "rt_sigprocmask", Path: d.f.Name(), Err: err}
	}
	for range attempts {
		if err = make(); !errors.Is(err, unix.ENOMEM) {
			break
		}
	}
	if e := unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil); e != nil {
		err = errors.Join(err, &os.PathError{Op: "rt_sigprocmask", Path: d.f.Name(), Err: e})
	}
	return err
}

// Bits of a task's flags (linux/sched.h).
const (
	pfUserWorker = 0x00004000 // PF_USER_WORKER: a kernel worker that is a thread of a process
	pfKthread    = 0x00200000 // PF_KTHREAD
)

// task is what /proc says of a task.
type task struct {
	tid       int
	ppid      int
	comm      string
	flags     uint64
	startTime uint64 // clock ticks after boot
}

func (t task) isUserWorker() bool {
	return t.flags&pfUserWorker != 0 && t.flags&pfKthread == 0 && strings.HasPrefix(t.comm, "vhost-")
}

var (
	errNoWorker   = errors.New("no new vhost worker among the threads of the process")
	errAmbiguous  = errors.New("several new vhost workers, none with this thread's id in its name")
	errStatFormat = errors.New("unexpected format")
)

// newWorkerTask finds the worker that caller made: a task that was not there
// before and has the flags of one. Other threads of the process may make
// workers at the same time; then the id in the name decides. That id is of the
// initial pid namespace, so elsewhere a name that differs is accepted as long
// as there is no choice.
func newWorkerTask(before map[int]bool, after []task, caller int) (Worker, error) {
	name := "vhost-" + strconv.Itoa(caller)
	var found []task
	for _, t := range after {
		if before[t.tid] || !t.isUserWorker() {
			continue
		}
		if t.comm == name {
			return Worker{TID: t.tid, Comm: t.comm}, nil
		}
		found = append(found, t)
	}
	switch len(found) {
	case 0:
		return Worker{}, errNoWorker
	case 1:
		return Worker{TID: found[0].tid, Comm: found[0].comm}, nil
	}
	return Worker{}, errAmbiguous
}

// kthreadWorker finds the kernel thread that caller made last: a child of
// kthreadd with caller's id in its name.
func kthreadWorker(all []task, caller int) Worker {
	const kthreadd = 2
	w := Worker{Kthread: true, Comm: "vhost-" + strconv.Itoa(caller)}
	var newest uint64
	for _, t := range all {
		if t.ppid != kthreadd || t.flags&pfKthread == 0 || t.comm != w.Comm {
			continue
		}
		if t.startTime > newest || t.startTime == newest && t.tid > w.TID {
			newest, w.TID = t.startTime, t.tid
		}
	}
	return w
}

// taskSet returns the ids of this process's threads.
func taskSet() (map[int]bool, error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	set := make(map[int]bool, len(entries))
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			set[tid] = true
		}
	}
	return set, nil
}

// readTasks returns the tasks that a folder of /proc lists. One that ends
// meanwhile is left out.
func readTasks(dir string) ([]task, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var tasks []task
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile(dir + "/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		t, err := parseStat(string(b))
		if err != nil {
			return nil, fmt.Errorf("%s/%d/stat: %w", dir, tid, err)
		}
		tasks = append(tasks, t)
	}
	return tasks, nil
}

// parseStat reads a line of /proc/PID/stat (proc(5)). The name in parentheses
// may itself hold spaces and parentheses.
func parseStat(line string) (task, error) {
	open, end := strings.IndexByte(line, '('), strings.LastIndexByte(line, ')')
	if open < 1 || end < open {
		return task{}, errStatFormat
	}
	const first = 3 // number of the field after the name
	fields := strings.Fields(line[end+1:])
	if len(fields) < 22-first+1 {
		return task{}, errStatFormat
	}
	t := task{comm: line[open+1 : end]}
	var err [4]error
	t.tid, err[0] = strconv.Atoi(strings.TrimSpace(line[:open]))
	t.ppid, err[1] = strconv.Atoi(fields[4-first])
	t.flags, err[2] = strconv.ParseUint(fields[9-first], 10, 64)
	t.startTime, err[3] = strconv.ParseUint(fields[22-first], 10, 64)
	return t, errors.Join(err[:]...)
}
