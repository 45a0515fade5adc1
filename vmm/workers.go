package vmm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/task"
	"minivmm/vhost"
	"minivmm/vmm/config"
)

// Worker is a kernel thread that serves a device of this VM.
type Worker struct {
	vhost.Worker
	Device   string        // "net0"
	Queues   string        // what it serves: "receive, transmit"
	BusyPoll time.Duration // how long it looks for work before it sleeps

	dev   *vhost.Device
	place placement    // as it was made and changed since
	watch *vhost.Watch // nil where the kernel has none
}

// String is one line for people: device, queues, thread, cgroup, CPUs, and the
// scheduling where it is not the default.
func (w Worker) String() string {
	kind := "thread"
	if w.Kthread {
		kind = "kernel thread"
	}
	line := fmt.Sprintf("%s (%s): %s %d %s, cgroup %s, CPUs %s",
		w.Device, w.Queues, kind, w.TID, w.Comm, orUnknown(w.Cgroup), orUnknown(w.CPUsAllowed))
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

// Workers lists the VM's workers, in the order of its devices; none once it is
// closed. Any goroutine may call it.
func (m *VM) Workers() []Worker {
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	return slices.Clone(m.workers)
}

// placement is how a device's workers are to run.
type placement struct {
	device   string
	affinity config.CPUSet // empty: anywhere
	key      string        // that affinity is from
	sched    vhost.Sched
	busyPoll time.Duration
	polls    bool // vhost-net, which heeds busyPoll
}

// placement is what the configuration says for a device, whose own affinity is
// before that of all workers.
func (m *VM) placement(device string, own config.CPUSet) placement {
	p := placement{device: device, affinity: m.plan.Workers.Affinity, key: "workers.affinity", sched: schedOf(m.plan.Workers.Sched, m.plan.Workers.Nice)}
	if len(own) > 0 {
		p.affinity, p.key = own, "affinity"
	}
	return p
}

// schedOf puts a policy and a nice value, which only some policies have, into
// the kernel's terms.
func schedOf(s config.Sched, nice int) vhost.Sched {
	name, priority := s.Split()
	v := vhost.Sched{Priority: priority}
	switch name {
	case "fifo":
		v.Policy = vhost.FIFO
	case "rr":
		v.Policy = vhost.RR
	case "batch":
		v.Policy = vhost.Batch
	case "idle":
		v.Policy = vhost.Idle
	}
	if s.Fair() {
		v.Nice = nice
	}
	return v
}

// own makes the first worker of dev, VHOST_SET_OWNER, and remembers it.
func (m *VM) own(dev *vhost.Device, p placement, queues string) error {
	w, err := m.newWorker(dev, p, queues, dev.SetOwnerHere)
	if err != nil {
		return err
	}
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	m.workers = append(m.workers, w)
	return nil
}

// newWorker has create make a worker. The kernel copies the calling
// thread, so that is one made for the purpose, with the affinity that the worker
// is to have; it ends with its goroutine, which never unlocks it. The rest is
// set on the worker itself, which has nothing to do yet.
func (m *VM) newWorker(dev *vhost.Device, p placement, queues string, create func() (vhost.Worker, error)) (Worker, error) {
	type result struct {
		worker vhost.Worker
		err    error
	}
	made := make(chan result)
	vhost.OnThreadOfItsOwn(func() {
		var r result
		defer func() { made <- r }()
		defer task.Catch(func(err error) { r.err = err })
		if r.err = setAffinity(p.key, p.affinity); r.err == nil {
			r.worker, r.err = create()
		}
	})
	r := <-made
	w := Worker{Worker: r.worker, Device: p.device, Queues: queues, dev: dev, place: p}
	if r.err != nil {
		return w, r.err
	}
	if w.Kthread && len(p.affinity) > 0 {
		// kthreadd's children inherit from kthreadd.
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

// setAffinity binds the calling thread to cpus, if there are any.
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

// forgetWorkers is the first step of taking the machine apart: their thread ids
// may soon be others'.
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

// WorkerSettings is a change to workers of a running VM. What is nil stays.
type WorkerSettings struct {
	Count    *config.WorkerCount // of vhost-scsi's; as the configuration's workers.count
	Affinity config.CPUSet       // the CPUs they may run on
	Sched    *config.Sched       // a policy without a nice value sets that to 0
	Nice     *int                // -20 to 19, for a policy that has one
	BusyPoll *time.Duration      // whole microseconds up to a second; vhost-net's only
}

// SetWorkers changes how the workers of a device run, or all for "". Any
// goroutine may call it, whether the guest runs or not. It needs the same rights
// as the configuration: CAP_SYS_NICE or a resource limit for what is more than
// the default (EPERM). What vhost-scsi cannot do, which is to poll, matches
// errors.ErrUnsupported if the device is named; so does what this kernel cannot do, more
// than one worker for vhost-scsi (before Linux 6.5, and with kernel threads). Requests go on
// meanwhile. After an error some of it may hold, but the count is what it was.
func (m *VM) SetWorkers(device string, s WorkerSettings) error {
	if err := s.check(); err != nil {
		return err
	}
	m.workersMu.Lock()
	defer m.workersMu.Unlock()
	if s.Count != nil {
		if err := m.recountWorkers(device, *s.Count); err != nil {
			return err
		}
	}
	var errs []error
	var names []string
	found := false
	for i := range m.workers {
		w := &m.workers[i]
		if !slices.Contains(names, w.Device) {
			names = append(names, w.Device)
		}
		if device != "" && device != w.Device {
			continue
		}
		found = true
		if err := w.apply(s, device != ""); err != nil {
			errs = append(errs, fmt.Errorf("worker of %s (%s): %w", w.Device, w.Queues, err))
		}
	}
	if !found {
		if len(names) == 0 {
			return errors.New("the machine has no workers of the kernel")
		}
		return fmt.Errorf("%q is no device with workers of the kernel: there are %s", device, strings.Join(names, ", "))
	}
	return errors.Join(errs...)
}

func (s WorkerSettings) check() error {
	if c := s.Count; c != nil {
		var known config.WorkerCount
		if err := known.UnmarshalText([]byte(c.String())); err != nil {
			return fmt.Errorf("count: %w", err)
		}
	}
	if s.Nice != nil && (*s.Nice < -20 || *s.Nice > 19) {
		return fmt.Errorf("nice %d is not in -20 to 19", *s.Nice)
	}
	if s.Sched != nil {
		var known config.Sched
		if err := known.UnmarshalText([]byte(*s.Sched)); err != nil {
			return err
		}
	}
	if d := s.BusyPoll; d != nil && (*d < 0 || *d > time.Second || *d%time.Microsecond != 0) {
		return fmt.Errorf("busy poll %v is not a whole number of microseconds up to 1s", *d)
	}
	return nil
}

func (w *Worker) apply(s WorkerSettings, named bool) error {
	if len(s.Affinity) > 0 {
		if err := w.SetAffinity(s.Affinity); err != nil {
			return err
		}
		w.place.affinity, w.place.key = s.Affinity, "affinity"
	}
	if s.Sched != nil || s.Nice != nil {
		now, err := w.Sched()
		if err != nil {
			return err
		}
		want := now
		if s.Sched != nil {
			want = schedOf(*s.Sched, now.Nice)
		}
		if s.Nice != nil {
			if want.Policy != vhost.Other && want.Policy != vhost.Batch {
				return fmt.Errorf("nice is for the policies other and batch, and this is %v", want)
			}
			want.Nice = *s.Nice
		}
		if err := w.SetSched(want); err != nil {
			return err
		}
		w.place.sched = want
	}
	switch {
	case s.BusyPoll == nil:
	case w.place.polls:
		return w.setBusyPoll(*s.BusyPoll)
	case named:
		return fmt.Errorf("busy poll: %w: vhost-scsi takes the setting and does not heed it", errors.ErrUnsupported)
	}
	return nil
}

// setBusyPoll is for both rings of a vhost-net device.
func (w *Worker) setBusyPoll(d time.Duration) error {
	for _, ring := range []uint32{vhost.NetRX, vhost.NetTX} {
		if err := w.dev.SetVringBusyloopTimeout(ring, uint32(d.Microseconds())); err != nil {
			return err
		}
	}
	w.BusyPoll = d
	return nil
}
