package vmm

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"minivmm/devices/virtio"
	"minivmm/vmm/tracepoint"
)

// interruptCounter counts, while it is on, the interrupts of the queues that the kernel serves. Their eventfds tell nothing:
// KVM takes the count of one as it injects. So each queue that leads to a message has a counter of KVM's tracepoint, in the
// worker that serves it and for that message; the other queues of the worker have other messages. The router
// tells which queue leads where.
type interruptCounter struct {
	// server is the worker of a queue, by its Call notifier, and how often its device was reset; ok is false if no worker serves it.
	server func(call *virtio.Notifier) (w Worker, resets uint64, ok bool)
	find   func() (injections, error)

	mu     sync.Mutex
	why    error                              // why it is off though the configuration wants it on
	trace  injections                         // nil: off
	held   eventCounter                       // nil if off, or without a worker
	queues map[*virtio.Notifier]*countedQueue // all that were ever connected
}

// injections makes counters of the interrupts that one thread sends to guests.
type injections interface {
	count(tid int, m virtio.Message) (eventCounter, error)
	// hold counts nothing. While it is open, the first and the last of the others cost what all others do.
	hold(tid int) (eventCounter, error)
}

// eventCounter is a *tracepoint.Counter.
type eventCounter interface {
	Count() (uint64, error)
	Close() error
}

// tracedInjections are those of a tracepoint with an MSI's address and data as fields (arch/x86/kvm/irq_comm.c,
// kvm_set_msi_irq). For an irqfd KVM passes it in the thread that signals the eventfd, once for each signal.
type tracedInjections struct{ point tracepoint.Point }

func findInjections() (injections, error) {
	point, err := tracepoint.Find("kvm/kvm_msi_set_irq")
	return tracedInjections{point}, err
}

func (t tracedInjections) count(tid int, m virtio.Message) (eventCounter, error) {
	// Without KVM_CAP_X2APIC_API, KVM leaves the upper half of the address alone.
	return t.point.Open(tid, fmt.Sprintf("address == %#x && data == %#x", uint32(m.Address), m.Data))
}

func (t tracedInjections) hold(tid int) (eventCounter, error) { return t.point.Hold(tid) }

// countedQueue is a queue that has led to a message, or leads to one.
type countedQueue struct {
	message *virtio.Message // nil while it leads nowhere
	event   eventCounter    // nil while it is not counted
	base    uint64          // what event had counted when sum began
	sum     uint64          // by earlier events, and of what was signalled between them
	resets  uint64          // the device's, when sum began
	err     error           // why sum is too small
}

// newInterruptCounter is off.
func newInterruptCounter(server func(*virtio.Notifier) (Worker, uint64, bool)) *interruptCounter {
	return &interruptCounter{server: server, find: findInjections, queues: make(map[*virtio.Notifier]*countedQueue)}
}

// connect says that call leads to m from now on, before it does. Signals that wait in its eventfd are one interrupt then, which
// KVM sends from a thread of its own.
func (c *interruptCounter) connect(call *virtio.Notifier, m virtio.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queues[call]
	if q == nil {
		q = &countedQueue{}
		c.queues[call] = q
	}
	waited := c.trace != nil && q.message == nil && call.Pending()
	c.stop(call, q)
	q.message = &m
	c.start(call, q)
	if waited && q.event != nil {
		q.sum++
	}
}

// disconnect says that call leads nowhere any more.
func (c *interruptCounter) disconnect(call *virtio.Notifier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.queues[call]; q != nil {
		c.stop(call, q)
		q.message = nil
	}
}

// start opens the counter of a connected queue. c.mu is held.
func (c *interruptCounter) start(call *virtio.Notifier, q *countedQueue) {
	w, resets, served := c.server(call)
	if c.trace == nil || !served {
		return
	}
	q.renew(resets)
	if w.TID == 0 {
		q.err = fmt.Errorf("worker %s is not visible in /proc: %w", w.Comm, errors.ErrUnsupported)
		return
	}
	event, err := c.trace.count(w.TID, *q.message)
	if err != nil {
		q.err = err
		return
	}
	q.event, q.base = event, 0
}

// stop adds the counter of a queue to its sum. c.mu is held.
func (c *interruptCounter) stop(call *virtio.Notifier, q *countedQueue) {
	if q.event == nil {
		return
	}
	if _, resets, served := c.server(call); served {
		q.renew(resets)
	}
	n, err := q.event.Count()
	q.sum += n - q.base
	if err = errors.Join(err, q.event.Close()); err != nil {
		q.err = err
	}
	q.event = nil
}

// renew begins a new sum if the device was reset since the last one began.
func (q *countedQueue) renew(resets uint64) {
	if resets == q.resets {
		return
	}
	q.resets, q.sum, q.err = resets, 0, nil
	if q.event != nil {
		q.base, q.err = q.event.Count()
	}
}

// set turns counting on, from zero, or off. An error is why the host does not allow it.
func (c *interruptCounter) set(on bool, workers []Worker) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case on == (c.trace != nil):
		return nil
	case !on:
		return c.off()
	}
	trace, err := c.find()
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(workers, func(w Worker) bool { return w.TID != 0 }); i >= 0 {
		if c.held, err = trace.hold(workers[i].TID); err != nil {
			c.held = nil
			return err
		}
	}
	c.trace = trace
	for call, q := range c.queues {
		q.sum, q.err = 0, nil
		if q.message != nil {
			c.start(call, q)
		}
	}
	return nil
}

// off closes all counters. c.mu is held.
func (c *interruptCounter) off() error {
	c.trace, c.why = nil, nil
	var errs []error
	for _, q := range c.queues {
		if q.event != nil {
			errs = append(errs, q.event.Close())
			q.event = nil
		}
	}
	if c.held != nil {
		errs = append(errs, c.held.Close())
		c.held = nil
	}
	return errors.Join(errs...)
}

// close ends all counting.
func (c *interruptCounter) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.off()
}

// count is how many interrupts a queue has raised since counting was turned on or the device was last reset. ok is false where
// nobody knows, with the reason if somebody wants to.
func (c *interruptCounter) count(call *virtio.Notifier) (n uint64, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, resets, served := c.server(call)
	switch {
	case !served:
		return 0, false, nil
	case c.trace == nil:
		return 0, false, c.why
	}
	q := c.queues[call]
	if q == nil {
		return 0, true, nil // no driver has given it a vector
	}
	q.renew(resets)
	if q.err != nil {
		return 0, false, q.err
	}
	n = q.sum
	if q.event != nil {
		now, err := q.event.Count()
		if err != nil {
			return 0, false, err
		}
		n += now - q.base
	}
	return n, true, nil
}

// CountInterrupts begins or ends to count the interrupts of the queues that the kernel serves, for [VM.Report]; those that are
// served in process are always counted. It needs tracefs, and root, CAP_PERFMON or a kernel.perf_event_paranoid of 1; the error
// says what is lacking. While it is on, each switch of a worker and each of its interrupts costs a little more. Any
// goroutine may call it between New and Close.
func (m *VM) CountInterrupts(on bool) error {
	if err := m.interrupts.set(on, m.Workers()); err != nil {
		return fmt.Errorf("count interrupts: %w", err)
	}
	return nil
}

// countFromTheStart obeys the configuration. A count is not worth the machine: what stands in its way is said, here and in each report.
func (m *VM) countFromTheStart(opt Options) {
	if !m.cfg.Workers.CountInterrupts {
		return
	}
	if err := m.CountInterrupts(true); err != nil {
		m.interrupts.mu.Lock()
		defer m.interrupts.mu.Unlock()
		m.interrupts.why = err
		opt.Logf("workers.count_interrupts: %v", err)
	}
}

// serverOf is the kernel's worker for a queue, known by its Call notifier, and how often the queue's device was reset.
func (m *VM) serverOf(call *virtio.Notifier) (w Worker, resets uint64, ok bool) {
	for _, f := range m.account.fronts {
		for i := range f.NumQueues() {
			if f.Call(i) != call {
				continue
			}
			var own []Worker
			for _, w := range m.Workers() {
				if w.Device == f.Name() {
					own = append(own, w)
				}
			}
			k := workerOfQueue(i, len(own), f.ID() == virtio.NetID)
			if k < 0 {
				return Worker{}, 0, false
			}
			return own[k], f.Resets(), true
		}
	}
	return Worker{}, 0, false
}

// workerOfQueue is which of a device's n workers serves a queue, or -1: each of a NIC's has a pair, and a disk controller's first has control
// and event queue, and all of them the request queues in turn. A NIC's control queue is not the kernel's.
func workerOfQueue(queue, n int, nic bool) int {
	switch {
	case nic && queue/2 < n:
		return queue / 2
	case nic || n == 0:
		return -1
	case queue < scsiRequestQueue:
		return 0
	}
	return (queue - scsiRequestQueue) % n
}
