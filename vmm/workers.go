package vmm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/vhost"
	"minivmm/vmm/config"
	"minivmm/vmm/sandbox"
)

// Worker is a kernel thread that serves a device of this VM.
type Worker struct {
	vhost.Worker
	Device   string        // "net0"
	Rings    []int         // indices of the device's queues that the worker serves
	BusyPoll time.Duration // how long the worker polls for work before it sleeps

	dev   *vhost.Device
	place placement    // current settings
	watch *vhost.Watch // nil if the kernel does not support a Watch
}

// Serves returns the names of the worker's queues as text for people, such as "receive, transmit".
func (w Worker) Serves() string {
	var names []string
	for _, ring := range w.Rings {
		switch {
		case w.place.nic && w.place.rings > 2:
			names = append(names, fmt.Sprintf("%s %d", [...]string{"receive", "transmit"}[ring%2], ring/2))
		case w.place.nic:
			names = append(names, [...]string{"receive", "transmit"}[ring])
		case ring < scsiRequestQueue:
			names = append(names, [...]string{"control", "event"}[ring])
		case len(w.Rings) == w.place.rings:
			return strings.Join(append(names, "requests"), ", ")
		default:
			names = append(names, fmt.Sprintf("request %d", ring-scsiRequestQueue))
		}
	}
	return strings.Join(names, ", ")
}

// String returns one line for people: device, queues, thread, cgroup, CPUs, and the scheduling if
// it is not the default.
func (w Worker) String() string {
	kind := "thread"
	if w.Kthread {
		kind = "kernel thread"
	}
	line := fmt.Sprintf("%s (%s): %s %d %s, cgroup %s, CPUs %s",
		w.Device, w.Serves(), kind, w.TID, w.Comm, orUnknown(w.Cgroup), orUnknown(w.CPUsAllowed))
	if s, err := w.Sched(); err == nil && s != (vhost.Sched{}) {
		line += ", " + s.String()
	}
	if w.BusyPoll > 0 {
		line += ", busy poll " + w.BusyPoll.String()
	}
	return line
}

func orUnknown(get func() (string, error)) string {
	s, err := get()
	if err != nil {
		return "unknown"
	}
	return s
}

// Workers returns the VM's workers, in the order of its devices. After Close it returns none. Any
// goroutine may call it.
func (m *VM) Workers() []Worker {
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	return slices.Clone(m.workers)
}

// placement holds the settings of a device's workers.
type placement struct {
	device   string
	affinity config.CPUSet // empty: anywhere
	key      string        // configuration key of affinity
	sched    vhost.Sched
	busyPoll time.Duration
	nic      bool // vhost-net, which honors busyPoll
	rings    int  // number of the device's rings that the kernel serves
}

// placement returns the configured settings for a device. The argument own is the affinity in the
// device's own table; unless own is empty, it overrides workers.affinity.
func (m *VM) placement(device string, own config.CPUSet) placement {
	p := placement{device: device, affinity: m.plan.Workers.Affinity, key: "workers.affinity", sched: schedOf(m.plan.Workers.Sched, m.plan.Workers.Nice)}
	if len(own) > 0 {
		p.affinity, p.key = own, "affinity"
	}
	return p
}

// policies maps configured names to the kernel's policies. Any other name means vhost.Other.
var policies = map[string]vhost.Policy{"fifo": vhost.FIFO, "rr": vhost.RR, "batch": vhost.Batch, "idle": vhost.Idle}

// schedOf converts a policy, and a nice value if the policy has one, to vhost.Sched.
func schedOf(s config.Sched, nice int) vhost.Sched {
	name, priority := s.Split()
	v := vhost.Sched{Policy: policies[name], Priority: priority}
	if s.Fair() {
		v.Nice = nice
	}
	return v
}

// own creates the first worker of dev (VHOST_SET_OWNER) and records it.
func (m *VM) own(dev *vhost.Device, p placement, rings []int) error {
	w, err := m.newWorker(dev, p, rings, dev.SetOwnerHere)
	if err != nil {
		return err
	}
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	m.workers = append(m.workers, w)
	return nil
}

// newWorker creates a worker by calling the function create. The kernel copies attributes of the
// calling thread, so create runs on a new thread that has the worker's affinity and no
// capabilities, and that exits afterwards. newWorker applies the other settings to the worker
// itself, which is still idle.
func (m *VM) newWorker(dev *vhost.Device, p placement, rings []int, create func() (vhost.Worker, error)) (Worker, error) {
	w := Worker{Device: p.device, Rings: rings, dev: dev, place: p}
	err := vhost.OnThreadOfItsOwn(func() (err error) {
		if err := errors.Join(setAffinity(p.key, p.affinity), sandbox.Thread()); err != nil {
			return err
		}
		w.Worker, err = create()
		return err
	})
	if err != nil {
		return w, err
	}
	if w.Kthread && len(p.affinity) > 0 {
		// Kernel threads inherit their affinity from kthreadd.
		if err := w.SetAffinity(p.affinity); err != nil {
			return w, err
		}
	}
	if p.sched != (vhost.Sched{}) {
		if err := w.SetSched(p.sched); err != nil {
			return w, fmt.Errorf("worker of %s: %w", p.device, err)
		}
	}
	if p.busyPoll > 0 {
		if err := w.setBusyPoll(p.busyPoll); err != nil {
			return w, err
		}
	}
	return w, nil
}

// setAffinity binds the calling thread to cpus, unless cpus is empty.
func setAffinity(key string, cpus []int) error {
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
		return fmt.Errorf("%s %v: %w: none of these CPUs is online and allowed (see /proc/self/status, Cpus_allowed_list)", key, cpus, unix.ENODEV)
	default:
		return fmt.Errorf("%s %v: sched_setaffinity: %w", key, cpus, err)
	}
}

// forgetWorkers is the first step of Close: the workers' thread IDs may soon belong to other
// threads.
func (m *VM) forgetWorkers() error {
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	var errs []error
	for _, w := range m.workers {
		errs = append(errs, w.unwatch())
	}
	m.workers = nil
	return errors.Join(errs...)
}

// watchWorkers watches each device's workers. When a worker exits, its device sets
// DEVICE_NEEDS_RESET; otherwise the guest would not notice the exit, and its requests would wait
// forever. watchWorkers does nothing on kernels that cannot watch a worker (before Linux 6.9). The
// caller has locked workersMu.
func (m *VM) watchWorkers() error {
	for i, w := range m.workers {
		if w.watch != nil {
			continue
		}
		watch, err := w.Watch()
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: watch the worker: %w", w.Device, err)
		}
		m.workers[i].watch = watch
		m.tasks.Go(func(context.Context) error {
			if watch.Wait() == nil {
				m.workerGone(w)
			}
			return nil
		})
	}
	return nil
}

// unwatch must be called before the worker is destroyed.
func (w Worker) unwatch() error {
	if w.watch == nil {
		return nil
	}
	return w.watch.Close()
}

func (m *VM) workerGone(w Worker) {
	err := fmt.Errorf("the kernel worker for %s, thread %d, has exited; see the host's kernel log", w.Serves(), w.TID)
	for _, f := range m.account.fronts {
		if f.Name() == w.Device {
			f.Fail(err)
		}
	}
}
