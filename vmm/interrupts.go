package vmm

import (
	"errors"
	"fmt"
	"sync"

	"minivmm/devices/virtio"
	"minivmm/vmm/msicount"
)

// interruptCounter counts, while it is on, the interrupts of the queues that the kernel serves. Their eventfds tell nothing:
// KVM takes the count of one as it injects. So what the worker that serves a queue sends to the guest is counted, of the
// queue's message; the other queues of the worker have other messages. The router tells which queue leads where.
type interruptCounter struct {
	// server is the worker of a queue, by its Call notifier, and how often its device was reset; ok is false if no worker serves it.
	server func(call *virtio.Notifier) (w Worker, resets uint64, ok bool)
	open   func() (messageCounts, error)

	mu     sync.Mutex
	why    error                              // why it is off though the configuration wants it on
	counts messageCounts                      // nil: off
	queues map[*virtio.Notifier]*countedQueue // all that were ever connected
}

// messageCounts is a [msicount.Counters].
type messageCounts interface {
	count(tid int, m virtio.Message) (messageCount, error)
	Close() error
}

// messageCount is a [msicount.Counter].
type messageCount interface {
	Count() (uint64, error)
	Close() error
}

type kernelCounts struct{ *msicount.Counters }

func openKernelCounts() (messageCounts, error) {
	c, err := msicount.Open()
	if err != nil {
		return nil, err
	}
	return kernelCounts{c}, nil
}

func (k kernelCounts) count(tid int, m virtio.Message) (messageCount, error) {
	return k.Counters.Count(tid, m.Address, m.Data)
}

// countedQueue is a queue that has led to a message, or leads to one.
type countedQueue struct {
	message *virtio.Message // nil while it leads nowhere
	counter messageCount    // nil while it is not counted
	tid     int             // of the worker that counter looks at
	base    uint64          // what counter had counted when sum began
	sum     uint64          // by earlier counters, and of what was signalled between them
	resets  uint64          // the device's, when sum began
	err     error           // why sum is too small
}

// newInterruptCounter is off.
func newInterruptCounter(server func(*virtio.Notifier) (Worker, uint64, bool)) *interruptCounter {
	return &interruptCounter{server: server, open: openKernelCounts, queues: make(map[*virtio.Notifier]*countedQueue)}
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
	waited := c.counts != nil && q.message == nil && call.Pending()
	q.stop()
	q.message = &m
	c.start(call, q)
	if waited && q.counter != nil {
		q.sum++
	}
}

// disconnect says that call leads nowhere any more.
func (c *interruptCounter) disconnect(call *virtio.Notifier) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q := c.queues[call]; q != nil {
		q.stop()
		q.message = nil
	}
}

// start opens the counter of a connected queue. c.mu is held.
func (c *interruptCounter) start(call *virtio.Notifier, q *countedQueue) {
	w, resets, served := c.server(call)
	if c.counts == nil || !served {
		return
	}
	q.renew(resets)
	if w.TID == 0 {
		q.err = fmt.Errorf("worker %s is not visible in /proc: %w", w.Comm, errors.ErrUnsupported)
		return
	}
	counter, err := c.counts.count(w.TID, *q.message)
	if err != nil {
		q.err = err
		return
	}
	q.counter, q.tid, q.base = counter, w.TID, 0
}

// follow has the queues that other workers serve now counted there. What these have sent by then is not counted.
func (c *interruptCounter) follow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for call, q := range c.queues {
		if q.counter == nil {
			continue
		}
		if w, _, served := c.server(call); !served || w.TID != q.tid {
			q.stop()
			c.start(call, q)
		}
	}
}

// stop adds the counter to the sum, and ends it.
func (q *countedQueue) stop() {
	if q.counter == nil {
		return
	}
	n, err := q.counter.Count()
	q.sum += n - q.base
	if err = errors.Join(err, q.counter.Close()); err != nil {
		q.err = err
	}
	q.counter = nil
}

// renew begins a new sum if the device was reset since the last one began.
func (q *countedQueue) renew(resets uint64) {
	if resets == q.resets {
		return
	}
	q.resets, q.sum, q.err = resets, 0, nil
	if q.counter != nil {
		q.base, q.err = q.counter.Count()
	}
}

// set turns counting on, from zero, or off. An error is why the host does not allow it.
func (c *interruptCounter) set(on bool) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case on == (c.counts != nil):
		return nil
	case !on:
		return c.off()
	}
	if c.counts, err = c.open(); err != nil {
		c.counts = nil
		return err
	}
	c.why = nil
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
	c.why = nil
	if c.counts == nil {
		return nil
	}
	var errs []error
	for _, q := range c.queues {
		if q.counter != nil {
			errs = append(errs, q.counter.Close())
			q.counter = nil
		}
	}
	errs = append(errs, c.counts.Close())
	c.counts = nil
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
	case c.counts == nil:
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
	if q.counter != nil {
		now, err := q.counter.Count()
		if err != nil {
			return 0, false, err
		}
		n += now - q.base
	}
	return n, true, nil
}

// CountInterrupts begins or ends to count the interrupts of the queues that the kernel serves, for [VM.Report]; those that are
// served in process are always counted. It takes root, or CAP_BPF and CAP_PERFMON (EPERM). While it is on, every interrupt that an
// irqfd sends to any guest of the host runs a program of some 20 instructions. Any goroutine may call it between New and Close.
func (m *VM) CountInterrupts(on bool) error {
	if on && len(m.Workers()) == 0 {
		return nil
	}
	if err := m.interrupts.set(on); err != nil {
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
