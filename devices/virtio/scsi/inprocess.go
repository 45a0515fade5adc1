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

// maxWaiting is how many requests of one adapter wait for the host at the same
// time, each in a goroutine of its own.
const maxWaiting = 32

// InProcess serves the queues with goroutines of this process.
type InProcess struct {
	target *target.Target
	mu     sync.Mutex  // guards active for Rescan; Start, Stop and Close have one caller
	active *activation // nil when stopped
}

var _ virtio.Backend = (*InProcess)(nil)

// NewInProcess serves requests from the logical units of t, as SCSI target 0. The
// backend takes t: Close closes it.
//
// Each request queue has a goroutine, which answers what needs no waiting
// (target.Serve) and gives the rest to others, up to 32 at a time. No file is
// touched by it after Stop.
func NewInProcess(t *target.Target) *InProcess { return &InProcess{target: t} }

// Features are those of vhost-scsi and FeatureChange, which that does not have.
func (b *InProcess) Features() virtio.Features {
	return FeatureHotplug | FeatureChange | virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx | virtio.FeatureVersion1
}

// InKernel is false.
func (*InProcess) InKernel() bool { return false }

// activation is the time between Start and Stop.
type activation struct {
	virtio.Activation
	target  *target.Target
	waiting chan struct{} // a token for each request that waits for the host
	lanes   []*lane
	events  events

	scanning atomic.Bool // a look at the disks' sizes is under way, or will be
}

// Start serves the control queue and the request queues, and takes the event
// queue.
func (b *InProcess) Start(a virtio.Activation) error {
	act := &activation{Activation: a, target: b.target, waiting: make(chan struct{}, maxWaiting)}
	act.events.wanted = a.Features.Has(FeatureChange)
	b.setActive(act)
	for _, vq := range a.Queues {
		q, err := queue.Open(a.Memory, vq, a.Features)
		if err != nil {
			return err
		}
		if vq.Index == eventQueue {
			act.events.open(q)
			continue
		}
		act.lanes = append(act.lanes, newLane(act, q, vq))
	}
	b.target.PowerOn()
	a.Go(act.cancel)
	for _, l := range act.lanes {
		a.Go(l.serve)
	}
	return nil
}

// cancel cancels all requests when the activation ends.
func (a *activation) cancel(ctx context.Context) error {
	<-ctx.Done()
	for _, l := range a.lanes {
		l.stop()
	}
	return nil
}

// Stop closes the queues.
func (b *InProcess) Stop() error {
	act := b.active
	if act == nil {
		return nil
	}
	b.setActive(nil)
	errs := []error{act.events.close()}
	for _, l := range act.lanes {
		errs = append(errs, l.q.Close())
	}
	return errors.Join(errs...)
}

func (b *InProcess) setActive(a *activation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.active = a
}

// Close stops, and closes the target.
func (b *InProcess) Close() error { return errors.Join(b.Stop(), b.target.Close()) }

// lane is one queue with the requests under way.
type lane struct {
	act   *activation
	serve func(context.Context) error

	mu      sync.Mutex // guards what follows, and q but for Wait
	done    sync.Cond  // a request is done
	q       *queue.Queue
	busy    bool // serveRequests runs and will signal
	free    []*request
	running map[*request]struct{}
	begun   uint64 // how many requests were begun
	stopped bool   // the activation has ended
}

func newLane(act *activation, q *queue.Queue, vq virtio.Queue) *lane {
	l := &lane{act: act, q: q, running: make(map[*request]struct{}, vq.Size)}
	l.done.L = &l.mu
	l.serve = l.serveRequests
	if vq.Index == controlQueue {
		l.serve = l.serveControl
	}
	return l
}

// batch is how many requests are answered before the driver hears of it.
const batch = 16

// serveRequests serves a request queue until ctx ends or the driver breaks the
// ring.
func (l *lane) serveRequests(ctx context.Context) error {
	since := 0 // answered here since the last signal
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
				if r != nil {
					l.forget(r)
				}
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
			// All are waiting already, and so does this queue.
			since = 0
			err := l.signal(false)
			if err == nil {
				select {
				case l.act.waiting <- struct{}{}:
				case <-ctx.Done():
					err = ctx.Err()
				}
			}
			if err != nil {
				l.forget(r)
				return err
			}
		}
		l.act.Go(func(context.Context) error {
			r.serve(l.act.target, true)
			<-l.act.waiting
			return l.finish(r)
		})
	}
}

// next takes a request off the ring; nil if there is none.
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
	r.nth = l.begun
	l.begun++
	l.running[r] = struct{}{}
	return r, nil
}

// finish gives a request back to the driver. Without serveRequests at work, the
// driver hears of it now.
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

// forget is finish for a request that gets no answer.
func (l *lane) forget(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.running, r)
	l.done.Broadcast()
}

// signal tells the driver what was done. busy says whether serveRequests goes
// on: if not, requests that end meanwhile signal for themselves.
func (l *lane) signal(busy bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = busy
	return l.q.Signal()
}

// stop cancels all requests, and nobody waits for one any more: after a panic it
// may never be answered.
func (l *lane) stop() {
	l.cancel(func(*request) bool { return true }, responseReset)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	l.done.Broadcast()
}

// cancel cancels the requests that match. The result waits until those that were
// begun before it are answered or the activation ends.
func (l *lane) cancel(match func(*request) bool, response byte) (wait func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	begun := l.begun
	for r := range l.running {
		if match(r) {
			r.cancel(response)
		}
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for !l.stopped && l.find(func(r *request) bool { return r.nth < begun && match(r) }) {
			l.done.Wait()
		}
	}
}

// has says whether a request that matches is under way.
func (l *lane) has(match func(*request) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.find(match)
}

// find is has with mu held.
func (l *lane) find(match func(*request) bool) bool {
	for r := range l.running {
		if match(r) {
			return true
		}
	}
	return false
}

// badChain is a request that cannot be answered, because the driver left no room
// for the answer or no request in it.
func badChain(what string, got, want int) error {
	return fmt.Errorf("%w: %s of %d bytes, want %d", queue.ErrBadRing, what, got, want)
}
