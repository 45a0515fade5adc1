package scsi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/scsi/target"
)

// maxWaiting is how many requests of one adapter may wait for the host at the same time, each in
// its own goroutine.
const maxWaiting = 32

// InProcess is a backend that serves the queues with goroutines of this process.
type InProcess struct {
	target *target.Target
	active atomic.Pointer[activation] // nil when stopped
}

// NewInProcess returns a backend that serves requests to the logical units of t, as SCSI target 0.
// The backend owns t: Close closes t. The backend does not access any file after Stop.
func NewInProcess(t *target.Target) *InProcess { return &InProcess{target: t} }

// Features returns the features of vhost-scsi, plus FeatureChange, which vhost-scsi does not have.
func (b *InProcess) Features() virtio.Features {
	return FeatureHotplug | FeatureChange | virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx | virtio.FeatureVersion1
}

// InKernel returns false.
func (*InProcess) InKernel() bool { return false }

// activation is the state between Start and Stop.
type activation struct {
	virtio.Activation
	target  *target.Target
	waiting chan struct{} // a token for each request that waits for the host
	lanes   []*lane       // the request queues
	events  events

	scanning atomic.Bool // a check of the disks' sizes is scheduled or in progress
}

// Start serves the control queue and the request queues, and opens the event queue.
func (b *InProcess) Start(a virtio.Activation) error {
	act := &activation{Activation: a, target: b.target, waiting: make(chan struct{}, maxWaiting)}
	b.active.Store(act)
	var control virtio.Queue
	for _, vq := range a.Queues {
		switch {
		case vq.Index == controlQueue:
			control = vq
			continue
		case vq.Index == eventQueue && !a.Features.Has(FeatureChange):
			continue // no events
		}
		q, err := queue.Open(a.Memory, vq, a.Features)
		if err != nil {
			return err
		}
		if vq.Index == eventQueue {
			act.events.open(q)
			continue
		}
		l := &lane{act: act, q: q, running: make(map[*request]struct{}, vq.Size)}
		l.done.L = &l.mu
		act.lanes = append(act.lanes, l)
	}
	b.target.PowerOn()
	a.Go(act.cancel)
	for _, l := range act.lanes {
		a.Go(l.serve)
	}
	return queue.Start(a, control, act.serveControl)
}

// cancel waits for the end of the activation and then cancels all requests.
func (a *activation) cancel(ctx context.Context) error {
	<-ctx.Done()
	for _, l := range a.lanes {
		l.stop()
	}
	return nil
}

// Stop closes the queues.
func (b *InProcess) Stop() error {
	act := b.active.Swap(nil)
	if act == nil {
		return nil
	}
	errs := []error{act.events.close()}
	for _, l := range act.lanes {
		errs = append(errs, l.q.Close())
	}
	return errors.Join(errs...)
}

// Close stops the backend and closes the target.
func (b *InProcess) Close() error { return errors.Join(b.Stop(), b.target.Close()) }

// lane is one request queue and its requests in progress. A request that is in progress when the
// activation ends may never be answered.
type lane struct {
	act *activation

	mu      sync.Mutex // guards the fields below, and q except for Wait
	done    sync.Cond  // signals that a request has completed
	q       *queue.Queue
	busy    bool // serve is working and will signal
	free    []*request
	running map[*request]struct{}
	started uint64 // number of requests started
	stopped bool   // the activation has ended
}

// batch is how many requests are answered before the driver is signalled.
const batch = 16

// serve serves the queue until ctx is done or the driver breaks the ring.
func (l *lane) serve(ctx context.Context) error {
	since := 0 // requests answered here since the last signal
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, err := l.next()
		if err != nil {
			return err
		}
		if r == nil || since >= batch {
			since = 0
			if err := l.signal(r != nil); err != nil {
				return err
			}
		}
		if r == nil {
			if err := l.q.Wait(ctx); err != nil {
				return err
			}
			l.act.used()
			continue
		}
		if r.serve(l.act.target, false) {
			since++
			if err := l.finish(r); err != nil {
				return err
			}
			continue
		}
		select {
		case l.act.waiting <- struct{}{}:
		default:
			// All waiting slots are in use: this queue waits for one.
			since = 0
			if err := l.signal(false); err != nil {
				return err
			}
			select {
			case l.act.waiting <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		l.act.Go(func(context.Context) error {
			r.serve(l.act.target, true)
			<-l.act.waiting
			return l.finish(r)
		})
	}
}

// next removes a request from the ring. It returns nil if the ring is empty.
func (l *lane) next() (*request, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = true
	var r *request
	if n := len(l.free); n > 0 {
		r, l.free = l.free[n-1], l.free[:n-1]
	} else {
		r = &request{}
	}
	ok, err := l.q.Next(&r.chain)
	if err == nil && ok {
		err = r.parse()
	}
	if err != nil || !ok {
		l.free = append(l.free, r)
		return nil, err
	}
	r.nth = l.started
	l.started++
	l.running[r] = struct{}{}
	return r, nil
}

// finish returns a request to the driver. It signals the driver at once unless serve is working
// and will signal.
func (l *lane) finish(r *request) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	resized := r.reply.Resized
	err := l.q.Done(&r.chain, r.answer())
	delete(l.running, r)
	l.free = append(l.free, r)
	l.done.Broadcast()
	if err == nil && !l.busy {
		err = l.q.Signal()
	}
	if resized {
		l.act.resized([]uint16{r.command.LUN})
	}
	return err
}

// signal notifies the driver of completed requests. The argument busy says whether serve continues.
// If serve does not continue, each request that completes later signals the driver itself.
func (l *lane) signal(busy bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = busy
	return l.q.Signal()
}

// stop cancels all requests and wakes all waiters.
func (l *lane) stop() {
	l.cancel(func(*request) bool { return true }, responseReset)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.done.Broadcast()
}

// cancel cancels the matching requests; the driver gets the given response code. The returned
// function waits until all matching requests that had started before the call of cancel are
// answered, or until the activation ends.
func (l *lane) cancel(match func(*request) bool, response byte) (wait func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	started := l.started
	for r := range l.running {
		if match(r) {
			r.cancel(response)
		}
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for !l.stopped && l.find(func(r *request) bool { return r.nth < started && match(r) }) {
			l.done.Wait()
		}
	}
}

// has reports whether a matching request is in progress.
func (l *lane) has(match func(*request) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.find(match)
}

// find is like has, but the caller must hold mu.
func (l *lane) find(match func(*request) bool) bool {
	for r := range l.running {
		if match(r) {
			return true
		}
	}
	return false
}

// badChain returns the error for a request that cannot be answered because its buffer for the
// request or for the response is too small.
func badChain(what string, got, want int) error {
	return fmt.Errorf("%w: %s of %d bytes, want %d", queue.ErrBadRing, what, got, want)
}
