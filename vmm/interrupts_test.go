package vmm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"minivmm/devices/virtio"
	"minivmm/vhost"
)

// host of interrupts: what workers send, as the host would count it.
type tracedHost struct {
	t       *testing.T
	refuse  error // of every new counter
	closed  bool  // no counters can be had
	open    []*fakeEvent
	tid     int // of the only worker
	resets  uint64
	calls   []*virtio.Notifier
	counter *interruptCounter
}

type fakeEvent struct {
	host *tracedHost
	tid  int
	m    virtio.Message
	n    uint64
}

func (e *fakeEvent) Count() (uint64, error) { return e.n, nil }

func (e *fakeEvent) Close() error {
	i := slices.Index(e.host.open, e)
	if i < 0 {
		return errors.New("closed twice")
	}
	e.host.open = slices.Delete(e.host.open, i, i+1)
	return nil
}

func (h *tracedHost) count(tid int, m virtio.Message) (messageCount, error) {
	if h.refuse != nil {
		return nil, h.refuse
	}
	if h.closed {
		h.t.Error("a counter of what is closed")
	}
	e := &fakeEvent{host: h, tid: tid, m: m}
	h.open = append(h.open, e)
	return e, nil
}

func (h *tracedHost) Close() error {
	h.closed = true
	return nil
}

// send is n interrupts by a thread.
func (h *tracedHost) send(tid int, m virtio.Message, n uint64) {
	for _, e := range h.open {
		if e.tid == tid && e.m == m {
			e.n += n
		}
	}
}

// expect compares the counts of all queues: "-" is unknown, and an error's text stands for itself.
func (h *tracedHost) expect(when, want string) {
	h.t.Helper()
	var got []string
	for _, call := range h.calls {
		n, ok, err := h.counter.count(call)
		switch {
		case err != nil:
			got = append(got, err.Error())
		case !ok:
			got = append(got, "-")
		default:
			got = append(got, fmt.Sprint(n))
		}
	}
	if text := strings.Join(got, " "); text != want {
		h.t.Errorf("%s: %s, want %s", when, text, want)
	}
}

// newTracedHost has two queues that worker 7 serves, and a third that no worker does.
func newTracedHost(t *testing.T) *tracedHost {
	h := &tracedHost{t: t, tid: 7}
	for i := range 3 {
		call, err := virtio.NewNotifier(fmt.Sprintf("net0-call-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { call.Close() })
		h.calls = append(h.calls, call)
	}
	h.counter = newInterruptCounter(func(call *virtio.Notifier) (Worker, uint64, bool) {
		return Worker{Worker: vhost.Worker{TID: h.tid, Comm: "vhost-1"}, Device: "net0"}, h.resets, call != h.calls[2]
	})
	h.counter.open = func() (messageCounts, error) {
		h.closed = false
		return h, h.refuse
	}
	return h
}

func (h *tracedHost) set(on bool) {
	h.t.Helper()
	if err := h.counter.set(on); err != nil {
		h.t.Fatal(err)
	}
}

// TestInterruptsAreCountedWhereverTheyGo changes messages, masks, resets the device, and turns counting on and off.
func TestInterruptsAreCountedWhereverTheyGo(t *testing.T) {
	h := newTracedHost(t)
	c, rx, tx := h.counter, h.calls[0], h.calls[1]
	a, b := virtio.Message{Address: 0xfee00000, Data: 0x31}, virtio.Message{Address: 0xfee01000, Data: 0x32}
	c.connect(rx, a)
	h.send(7, a, 5)
	h.expect("off", "- - -")
	h.set(true)
	h.set(true)
	h.expect("on", "0 0 -")
	h.send(7, a, 2)
	h.send(7, b, 2)
	h.send(8, a, 2)
	h.expect("one of two connected", "2 0 -")
	c.connect(tx, b)
	c.connect(h.calls[2], virtio.Message{Data: 1})
	h.send(7, b, 3)
	h.send(7, a, 1)
	h.expect("both connected", "3 3 -")

	// The guest moves an interrupt to another CPU, with and without masking it first.
	moved := virtio.Message{Address: 0xfee02000, Data: 0x41}
	c.connect(rx, moved)
	h.send(7, a, 100)
	h.send(7, moved, 4)
	h.expect("moved", "7 3 -")
	c.disconnect(rx)
	h.send(7, moved, 100)
	h.expect("masked", "7 3 -")
	c.connect(rx, a)
	h.send(7, a, 1)
	h.expect("unmasked", "8 3 -")

	// Signals that wait while it is masked become one.
	c.disconnect(rx)
	for range 3 {
		if err := rx.Signal(); err != nil {
			t.Fatal(err)
		}
	}
	c.connect(rx, a)
	rx.Drain() // as KVM does
	h.expect("unmasked, with signals waiting", "9 3 -")
	c.disconnect(rx)
	c.disconnect(rx)
	c.connect(rx, a)
	h.expect("unmasked, with none", "9 3 -")

	// A reset ends the old count, whether it is read before the transport disconnects the queues or after.
	h.send(7, a, 1)
	h.send(7, b, 1)
	h.resets++
	h.expect("reset", "0 0 -")
	c.disconnect(rx)
	c.disconnect(tx)
	h.expect("reset and disconnected", "0 0 -")
	c.connect(rx, b)
	h.send(7, b, 6)
	h.resets++
	c.disconnect(rx)
	h.expect("reset again", "0 0 -")
	c.connect(rx, b)
	h.send(7, b, 6)
	h.expect("in the next life", "6 0 -")

	// Another worker takes the queue over: what it sends is counted, and what the first one sends no longer.
	h.tid = 8
	c.follow()
	h.send(8, b, 2)
	h.send(7, b, 100)
	h.expect("with another worker", "8 0 -")
	c.follow()
	h.send(8, b, 1)
	h.expect("with the same worker", "9 0 -")
	h.tid = 7
	c.follow()

	h.set(false)
	h.expect("off again", "- - -")
	if len(h.open) > 0 || !h.closed {
		t.Errorf("%d counters are left, closed %v", len(h.open), h.closed)
	}
	h.set(true)
	h.expect("on again", "0 0 -")
	if err := c.close(); err != nil || len(h.open) > 0 || !h.closed {
		t.Errorf("closed: %v, %d counters are left, closed %v", err, len(h.open), h.closed)
	}
	c.disconnect(rx) // as devices do that close later
	c.connect(rx, a)
}

// TestInterruptsThatCannotBeCounted has hosts that do not allow it, or only at times.
func TestInterruptsThatCannotBeCounted(t *testing.T) {
	h := newTracedHost(t)
	c, rx := h.counter, h.calls[0]
	a := virtio.Message{Address: 0xfee00000, Data: 0x31}
	c.connect(rx, a)
	h.refuse = errors.New("refused")
	if err := c.set(true); !errors.Is(err, h.refuse) {
		t.Errorf("turned on: %v", err)
	}
	h.expect("refused", "- - -")
	c.why = h.refuse
	h.expect("refused, and configured", "refused refused -")

	h.refuse = nil
	h.set(true)
	h.refuse = errors.New("too many open files")
	c.connect(rx, virtio.Message{Data: 2})
	h.expect("refused later", "too many open files 0 -")
	h.refuse = nil
	c.connect(rx, a)
	h.send(7, a, 1)
	h.expect("a count that lacks some", "too many open files 0 -")
	h.resets++
	h.expect("after a reset", "0 0 -")
	h.set(false)

	h.tid = 0
	h.set(true)
	c.connect(rx, a)
	h.expect("a worker that cannot be seen", "worker vhost-1 is not visible in /proc: unsupported operation 0 -")
	if err := c.close(); err != nil {
		t.Error(err)
	}
}

// TestWorkerOfQueue compares with what the workers are said to serve.
func TestWorkerOfQueue(t *testing.T) {
	for _, c := range []struct {
		n    int
		nic  bool
		want []int // by queue
	}{
		{1, true, []int{0, 0, -1}},
		{2, true, []int{0, 0, 1, 1, -1}},
		{0, true, []int{-1, -1}},
		{1, false, []int{0, 0, 0, 0}},
		{2, false, []int{0, 0, 0, 1, 0, 1}},
		{3, false, []int{0, 0, 0, 1, 2, 0}},
		{0, false, []int{-1, -1, -1}},
	} {
		for queue, want := range c.want {
			if got := workerOfQueue(queue, c.n, c.nic); got != want {
				t.Errorf("queue %d, %d workers, NIC %v: %d, want %d", queue, c.n, c.nic, got, want)
			}
		}
	}
}
