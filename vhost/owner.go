package vhost

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/procfs"
	"minivmm/internal/task"
)

// Worker is a thread that serves all or some of a device's rings.
type Worker struct {
	// ID is the worker's number in the device, not a thread id. SetOwner creates worker 0. Only
	// vhost-scsi supports more workers.
	ID uint32

	// TID is the worker's thread id, or 0 for a kernel thread that /proc does not show, as in a pid
	// namespace.
	TID int

	// Kthread is true for a kernel thread, false for a thread of this process. The worker is a
	// kernel thread before Linux 6.4 and after SetForkFromOwner(false).
	Kthread bool

	// Comm is the worker's name: "vhost-" followed by the id of the thread that called SetOwner.
	// This id is the one in the initial pid namespace.
	Comm string
}

// attempts is the maximum number of attempts to create one worker, if they fail with ENOMEM. Even
// with signals blocked, one attempt is not enough: a thread that is being frozen or stopped cannot
// be cloned, but its next system call after the thaw can succeed.
const attempts = 3

// SetOwnerHere makes this process the owner, selects a thread of this process as the worker, and
// finds it. The worker inherits affinity, nice value, cgroup, namespaces and credentials from the
// calling goroutine's thread. If these matter, the caller must lock the goroutine to its thread and
// set them first, and must not use a vCPU's thread. Signals are blocked on the thread during the
// call, because a pending signal would make the call fail.
//
// An error that matches ENOMEM names the limit that is the likely cause. If SET_OWNER succeeded but
// the worker cannot be found, the error says so and the caller must close the device.
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

// NewWorkerHere creates another worker, as NewWorker does, and finds it. The same rules as for
// SetOwnerHere apply to the calling thread and to ENOMEM. If the kernel supports only one worker
// per device, the error matches errors.ErrUnsupported.
func (d *Device) NewWorkerHere() (Worker, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var id uint32
	w, err := d.findMade(func() (err error) {
		id, err = d.NewWorker()
		return err
	})
	if err != nil && id != 0 { // the worker was created but cannot be found
		err = errors.Join(err, d.FreeWorker(id))
	}
	w.ID = id
	return w, err
}

// findMade calls the given function, which creates a worker from the calling thread, and finds this
// worker. It returns errNoWorker if the process has no new worker afterwards.
func (d *Device) findMade(make func() error) (Worker, error) {
	before, err := procfs.TaskIDs("/proc/self/task")
	if err != nil {
		return Worker{}, err
	}
	if err := d.withSignalsBlocked(make); err != nil {
		if errors.Is(err, unix.ENOMEM) {
			err = fmt.Errorf("%w (%s)", err, TaskLimits())
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

// withSignalsBlocked blocks all signals of the thread while it calls the given function. It repeats
// the call on ENOMEM.
func (d *Device) withSignalsBlocked(make func() error) (err error) {
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

// isWorker reports whether a task is a worker that is a thread of a process, as opposed to a kernel
// thread.
func isWorker(t procfs.Stat) bool { return t.UserWorker() && strings.HasPrefix(t.Comm, "vhost-") }

var (
	errNoWorker  = errors.New("no new vhost worker among the threads of the process")
	errAmbiguous = errors.New("several new vhost workers, but none has this thread's id in its name")
)

// newWorkerTask finds the worker that the thread with the id caller created: a new task with the
// flags of a worker. If other threads of the process create workers at the same time, the thread id
// in the worker's name decides. That id is from the initial pid namespace and can differ from
// caller, so if there is only one new worker, any name is accepted.
func newWorkerTask(before []int, after []procfs.Stat, caller int) (Worker, error) {
	name := "vhost-" + strconv.Itoa(caller)
	var found []procfs.Stat
	for _, t := range after {
		if slices.Contains(before, t.TID) || !isWorker(t) {
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

// kthreadWorker finds the last kernel thread that the thread with the id caller created: a child of
// kthreadd with this id in its name.
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

// readTasks returns the tasks that a folder of /proc lists, without tasks that exit during the
// call.
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

// OnThreadOfItsOwn runs f on a thread that exits afterwards, so that attributes set for a worker to
// inherit do not leak to other goroutines. It waits for f. It does not use the process's first
// thread, which cannot exit. It returns a panic of f as an error.
func OnThreadOfItsOwn(f func() error) (err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer task.Catch(func(panicked error) { err = panicked })
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			err = f()
			return
		}
		defer runtime.UnlockOSThread()
		err = OnThreadOfItsOwn(f)
	}()
	<-ended
	return err
}

// NewWorker creates another worker from the calling thread, as SetOwner does, and returns the
// worker's ID (VHOST_NEW_WORKER). It requires Linux 6.5 and a vhost-scsi device whose workers are
// not kernel threads (else EFAULT). Without these the error matches errors.ErrUnsupported. It
// returns ENOMEM in the same cases as SetOwner.
func (d *Device) NewWorker() (id uint32, err error) {
	var arg workerState
	err = unsupported(newWorker, "6.5", ioctlPtr(d, newWorker, &arg))
	if errors.Is(err, unix.EFAULT) {
		err = fmt.Errorf("%w: %w (this device's workers are kernel threads)", err, errors.ErrUnsupported)
	}
	return arg.workerID, err
}

// FreeWorker stops a worker (VHOST_FREE_WORKER). It returns EBUSY while a ring uses the worker. It
// waits until the worker's function returns, not until the thread exits (kernel/vhost_task.c,
// vhost_task_stop): the thread stays in /proc and counts against limits a little longer.
func (d *Device) FreeWorker(id uint32) error {
	return unsupported(freeWorker, "6.5", ioctlPtr(d, freeWorker, &workerState{workerID: id}))
}

// AttachVringWorker assigns a worker to a ring (VHOST_ATTACH_VRING_WORKER). If the ring has a kick
// or the device has an endpoint, each call waits for an RCU grace period, and until the ring's
// previous worker has finished its queued work.
func (d *Device) AttachVringWorker(index, id uint32) error {
	return unsupported(attachVringWorker, "6.5", setVring(d, attachVringWorker, index, &vringWorker{index: index, workerID: id}))
}
