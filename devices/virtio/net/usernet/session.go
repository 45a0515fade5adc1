package usernet

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/devices/virtio"
	vnet "minivmm/devices/virtio/net"
	"minivmm/devices/virtio/queue"
	"minivmm/internal/task"
)

// session is the guest's network from DRIVER_OK until reset.
type session struct {
	shared
	failed func(error)
	stack  *stack.Stack
	link   *link
	recv   *receiver
	send   *sender
	later  *later
	rings  [2]*queue.Queue

	tasks *task.Group     // goroutines of connections and flows; all other goroutines belong to the activation
	ctx   context.Context // the context of tasks

	pending  *attempts[netip.AddrPort] // TCP connections being established, by destination
	pings    *attempts[netip.Addr]
	queries  *attempts[uint16] // by the guest's port
	syns     *syns
	flows    *flows
	pieces   pieces
	out, in  atomic.Int32 // TCP connections from the guest (out) and to the guest (in)
	buffers  bufferSizes
	resolver atomic.Uint32 // index of the host's resolver to ask first
}

func newSession(b *Backend, a virtio.Activation) (_ *session, err error) {
	s := &session{shared: b.shared, failed: a.Failed}
	s.tasks = task.New(s.failed)
	s.ctx = s.tasks.Context()
	for i, q := range a.Queues {
		if s.rings[i], err = queue.Open(a.Memory, q, a.Features); err != nil {
			return nil, errors.Join(err, s.closeRings())
		}
	}
	s.recv = newReceiver(s.rings[0], a.Features.Has(vnet.FeatureMrgRxbuf), s.failed)
	s.recv.capture = s.capture
	gso := a.Features.Has(vnet.FeatureGuestCsum | vnet.FeatureGuestTSO4 | vnet.FeatureGuestTSO6)
	s.link = newLink(b.cfg.MTU, gso, s.recv, s.failed)
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
	for _, f := range []func(context.Context) error{s.end, s.recv.run, s.later.run, s.send.run, s.sweep} {
		a.Go(f)
	}
	if s.hasIPv6() {
		a.Go(s.advertise)
	}
	return s, nil
}

// start runs f in a goroutine of the session. It returns false if the session has ended.
func (s *session) start(f func()) bool {
	return s.ctx.Err() == nil && s.tasks.Go(func(context.Context) error {
		f()
		return nil
	})
}

// guard runs f. A panic in f stops only the NIC, not the VM.
func (s *session) guard(f func()) {
	defer task.Catch(s.failed)
	f()
}

// afterFunc is context.AfterFunc with guard, for functions that use the stack.
func (s *session) afterFunc(ctx context.Context, f func()) (stop func() bool) {
	return context.AfterFunc(ctx, func() { s.guard(f) })
}

// sweep closes idle flows.
func (s *session) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.flows.expire(now)
		case <-ctx.Done():
			return nil
		}
	}
}

// end destroys the session when the activation ends.
func (s *session) end(ctx context.Context) error {
	<-ctx.Done()
	s.tasks.Cancel()
	s.link.acks.close()
	s.recv.close()
	s.stack.Close()
	if err := s.tasks.Stop(); err != nil { // goroutines that remain after a panic use no ring, because recv is closed
		s.cfg.Logf("%v", err)
		return nil
	}
	for _, e := range s.stack.RegisteredEndpoints() {
		e.Abort() // a goroutine created it after the stack was closed
	}
	s.stack.Wait()
	return nil
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
