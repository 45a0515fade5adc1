package usernet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/devices/virtio"
	vnet "minivmm/devices/virtio/net"
	"minivmm/devices/virtio/queue"
)

// session is the guest's network from DRIVER_OK to reset.
type session struct {
	cfg      Config
	policy   *policy
	refusals *refusals
	lan      *lanPort // nil: none
	capture  *capture // nil: none

	failed func(error)
	stack  *stack.Stack
	link   *link
	recv   *receiver
	send   *sender
	later  *later
	rings  [2]*queue.Queue

	ctx      context.Context // ends with the session
	cancel   context.CancelFunc
	panicked atomic.Bool

	mu      sync.Mutex
	stopped bool           // no goroutine may begin
	running sync.WaitGroup // every goroutine that is started here

	pending  *attempts[netip.AddrPort] // TCP connections, by whom they are to
	pings    *attempts[netip.Addr]
	queries  *attempts[uint16] // by the guest's port
	syns     *syns
	flows    *flows
	pieces   pieces
	out, in  conns // TCP connections, by who began them
	buffers  bufferSizes
	resolver atomic.Uint32 // which of the host's to ask first
}

func newSession(b *Backend, a virtio.Activation) (_ *session, err error) {
	s := &session{cfg: b.cfg, policy: b.policy, refusals: b.refusals, lan: b.lan, capture: b.capture, failed: a.Failed}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for i, q := range a.Queues {
		if s.rings[i], err = queue.Open(a.Memory, q, a.Features); err != nil {
			return nil, errors.Join(err, s.closeRings())
		}
	}
	s.recv = newReceiver(s.rings[0], a.Features.Has(vnet.FeatureMrgRxbuf), s.fail)
	s.recv.capture = s.capture
	s.link = &link{
		mtu: uint32(b.cfg.MTU), recv: s.recv, catch: s.catch,
		gso: a.Features.Has(vnet.FeatureGuestCsum | vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6),
	}
	s.later = newLater(func() {
		s.link.acks.sendKept()
		s.send.signal()
	})
	s.link.acks = acks{mtu: uint32(b.cfg.MTU), arm: s.later.arm, flush: func(p *stack.PacketBuffer) { s.recv.send(frame{pkt: p}) }}
	s.send = &sender{q: s.rings[1], deliver: s.sent, later: s.later.arm, mayHold: mayHold(a.Queues[1].Size)}
	s.pending, s.pings = newAttempts[netip.AddrPort](maxPending, dialTimeout), newAttempts[netip.Addr](maxPings, pingTimeout)
	s.queries, s.syns, s.flows = newAttempts[uint16](maxQueries, queryTimeout), newSyns(), newFlows()
	if s.stack, err = newStack(s); err != nil {
		return nil, errors.Join(err, s.closeRings())
	}
	s.start(func() { s.recv.run(s.ctx) })
	s.start(func() { s.later.run(s.ctx) })
	s.start(func() {
		if err := s.send.run(s.ctx); s.ctx.Err() == nil {
			s.fail(err)
		}
	})
	s.start(s.sweep)
	if s.hasIPv6() {
		s.start(s.advertise)
	}
	return s, nil
}

// fail ends the data path: the driver is told that the device needs a reset.
func (s *session) fail(err error) {
	if s.ctx.Err() == nil {
		s.failed(err)
	}
}

// start runs f in a goroutine that stop waits for, or says that it is too late.
func (s *session) start(f func()) bool {
	if !s.enter() {
		return false
	}
	go func() {
		defer s.running.Done()
		s.guard(f)
	}()
	return true
}

// enter makes stop wait for the calling goroutine until running.Done.
func (s *session) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return false
	}
	s.running.Add(1)
	return true
}

// guard runs f; a panic in it costs the NIC and not the machine.
func (s *session) guard(f func()) {
	defer s.catch()
	f()
}

// catch is guard's, to be deferred where a closure would cost.
func (s *session) catch() {
	if r := recover(); r != nil {
		s.panicked.Store(true)
		s.fail(fmt.Errorf("the network stack panicked: %v\n%s", r, debug.Stack()))
		s.recv.close()
	}
}

// afterFunc is context.AfterFunc for what touches the stack: it runs in a goroutine of its own, which is guarded as the others are.
func (s *session) afterFunc(ctx context.Context, f func()) (stop func() bool) {
	return context.AfterFunc(ctx, func() { s.guard(f) })
}

// sweep ends what is idle.
func (s *session) sweep() {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.flows.expire(now)
		case <-s.ctx.Done():
			return
		}
	}
}

// afterPanic is how long stop waits for goroutines that may hang on a lock of a
// stack that panicked. None of them touches a ring again: they look at ctx
// first.
const afterPanic = 2 * time.Second

// stop ends the session.
func (s *session) stop() error {
	s.link.acks.close()
	s.recv.close()
	s.cancel()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.quiet(s.stack.Close)
		ended := make(chan struct{})
		go func() {
			s.running.Wait()
			close(ended)
		}()
		for {
			// A handshake that began meanwhile would wait for its guest.
			s.quiet(func() {
				for _, e := range s.stack.RegisteredEndpoints() {
					e.Abort()
				}
			})
			select {
			case <-ended:
				s.quiet(s.stack.Wait)
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	if s.panicked.Load() {
		select {
		case <-done:
		case <-time.After(afterPanic):
		}
	} else {
		<-done
	}
	return s.closeRings()
}

// quiet runs f, whose panic has no NIC to cost any more.
func (s *session) quiet(f func()) {
	defer func() {
		if recover() != nil {
			s.panicked.Store(true)
		}
	}()
	f()
}

func (s *session) closeRings() error {
	var errs []error
	for _, q := range s.rings {
		if q != nil {
			errs = append(errs, q.Close())
		}
	}
	return errors.Join(errs...)
}
