package vhost

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
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

// isWorker says whether a task is a worker that is a thread of a process.
func isWorker(t procfs.Stat) bool { return t.UserWorker() && strings.HasPrefix(t.Comm, "vhost-") }

var (
	errNoWorker  = errors.New("no new vhost worker among the threads of the process")
	errAmbiguous = errors.New("several new vhost workers, none with this thread's id in its name")
)

// newWorkerTask finds the worker that caller made: a task that was not there
// before and has the flags of one. Other threads of the process may make
// workers at the same time; then the id in the name decides. That id is of the
// initial pid namespace, so elsewhere a name that differs is accepted as long
// as there is no choice.
func newWorkerTask(before map[int]bool, after []procfs.Stat, caller int) (Worker, error) {
	name := "vhost-" + strconv.Itoa(caller)
	var found []procfs.Stat
	for _, t := range after {
		if before[t.TID] || !isWorker(t) {
			continue
		}
		if t.Comm == name {
			return Worker{TID: t.TID, Comm: t.Comm}, nil
		}
		found = append(found, t)
	}
	switch len(found) {
	case 0:
		return Worker{}, errNoWorker
	case 1:
		return Worker{TID: found[0].TID, Comm: found[0].Comm}, nil
	}
	return Worker{}, errAmbiguous
}

// kthreadWorker finds the kernel thread that caller made last: a child of
// kthreadd with caller's id in its name.
func kthreadWorker(all []procfs.Stat, caller int) Worker {
	const kthreadd = 2
	w := Worker{Kthread: true, Comm: "vhost-" + strconv.Itoa(caller)}
	var newest uint64
	for _, t := range all {
		if t.PPID != kthreadd || !t.Kthread() || t.Comm != w.Comm {
			continue
		}
		if t.StartTime > newest || t.StartTime == newest && t.TID > w.TID {
			newest, w.TID = t.StartTime, t.TID
		}
	}
	return w
}

// taskSet returns the ids of this process's threads.
func taskSet() (map[int]bool, error) {
	ids, err := procfs.TaskIDs("/proc/self/task")
	set := make(map[int]bool, len(ids))
	for _, tid := range ids {
		set[tid] = true
	}
	return set, err
}

// readTasks returns the tasks that a folder of /proc lists. One that ends
// meanwhile is left out.
func readTasks(dir string) ([]procfs.Stat, error) {
	ids, err := procfs.TaskIDs(dir)
	var tasks []procfs.Stat
	for _, tid := range ids {
		if t, err := procfs.ReadStat(dir + "/" + strconv.Itoa(tid)); err == nil {
			tasks = append(tasks, t)
		}
	}
	return tasks, err
}

// OnThreadOfItsOwn runs f on a thread that ends with it. What a worker is to inherit
// would else be some other goroutine's too. The process's first thread cannot end.
func OnThreadOfItsOwn(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		defer runtime.UnlockOSThread()
		ended := make(chan struct{})
		OnThreadOfItsOwn(func() { defer close(ended); f() })
		<-ended
	}()
}
