package vmm

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"minivmm/vhost"
)

// Worker is a kernel thread that serves a device of this VM.
type Worker struct {
	vhost.Worker
	Device string // "net0"
	Queues string // what it serves: "receive, transmit"
}

// String is one line for people: device, queues, thread, cgroup, CPUs.
func (w Worker) String() string {
	kind := "thread"
	if w.Kthread {
		kind = "kernel thread"
	}
	return fmt.Sprintf("%s (%s): %s %d %s, cgroup %s, CPUs %s",
		w.Device, w.Queues, kind, w.TID, w.Comm, orUnknown(w.Cgroup), orUnknown(w.CPUsAllowed))
}

func orUnknown(get func() (string, error)) string {
	s, err := get()
	if err != nil {
		return "unknown"
	}
	return s
}

// Workers lists the VM's workers, in the order of its devices.
func (m *VM) Workers() []Worker { return m.workers }

// own issues VHOST_SET_OWNER and remembers the worker. The kernel copies the
// calling thread, so that is one made for the purpose, with the affinity that
// the worker is to have; it ends with its goroutine, which never unlocks it.
func (m *VM) own(dev *vhost.Device, device, queues string) error {
	type result struct {
		worker vhost.Worker
		err    error
	}
	made := make(chan result)
	go func() {
		runtime.LockOSThread()
		var r result
		if r.err = setAffinity(m.cfg.Workers.Affinity); r.err == nil {
			r.worker, r.err = dev.SetOwnerHere()
		}
		made <- r
	}()
	r := <-made
	if r.err != nil {
		return r.err
	}
	if r.worker.Kthread && len(m.cfg.Workers.Affinity) > 0 {
		// kthreadd's children inherit from kthreadd.
		if err := r.worker.SetAffinity(m.cfg.Workers.Affinity); err != nil {
			return err
		}
	}
	m.workers = append(m.workers, Worker{Worker: r.worker, Device: device, Queues: queues})
	return nil
}

// setAffinity binds the calling thread to cpus, if there are any.
func setAffinity(cpus []int) error {
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	switch err := unix.SchedSetaffinity(0, &set); err {
	case nil:
		return nil
	case unix.EINVAL:
		return fmt.Errorf("workers.affinity %v: %w: none of these CPUs is online and allowed (see /proc/self/status, Cpus_allowed_list)", cpus, unix.ENODEV)
	default:
		return fmt.Errorf("workers.affinity %v: sched_setaffinity: %w", cpus, err)
	}
}
