package usernet

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// errRefused is a destination that the policy does not allow.
var errRefused = errors.New("not allowed")

// tuneTCP sets what differs from a path with losses and long ways. Frames get to
// the guest in order, and one lost is one that the guest dropped: RACK's timers
// (RFC 8985) would take a guest that waits for its CPU for a loss.
func tuneTCP(st *stack.Stack) tcpip.Error {
	recovery := tcpip.TCPRecovery(0)
	return st.SetTransportProtocolOption(tcp.ProtocolNumber, &recovery)
}

// acceptTCP is called for a SYN of the guest's, in a goroutine of its own.
func (s *session) acceptTCP(r *tcp.ForwarderRequest) {
	if !s.enter() {
		r.Complete(false)
		return
	}
	defer s.running.Done()
	s.guard(func() { s.connectOut(r) })
}

// connectOut makes the connection on the host first: the guest's is answered
// with what the outside answered.
func (s *session) connectOut(r *tcp.ForwarderRequest) {
	id := r.ID()
	host, err := s.dialTCP(netip.AddrPortFrom(addr(id.LocalAddress), id.LocalPort))
	if err != nil {
		// No answer from outside is no answer here.
		r.Complete(!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, unix.ETIMEDOUT))
		return
	}
	n := s.conns.Add(1)
	defer s.conns.Add(-1)
	if n > maxConns {
		abort(host)
		r.Complete(true)
		return
	}
	var wq waiter.Queue
	ep, terr := r.CreateEndpoint(&wq)
	if terr != nil {
		abort(host)
		r.Complete(true)
		return
	}
	r.Complete(false)
	splice(s, host, &guestTCP{ep: ep, wq: &wq}, int(n))
}

// dialTCP connects to a destination of the guest's choice, or to a resolver for
// the gateway's port 53.
func (s *session) dialTCP(dst netip.AddrPort) (*net.TCPConn, error) {
	targets := []netip.AddrPort{s.cfg.outside(dst)}
	switch {
	case dst.Addr() == gateway && dst.Port() == dnsPort:
		targets = s.resolvers()
	case network.Contains(dst.Addr()) || !s.cfg.Allowed(dst.Addr()):
		return nil, errRefused
	}
	ctx, end := s.pending.begin(s.ctx)
	defer end()
	var errs []error
	for _, t := range targets {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", t.String())
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// resolvers are the host's, the one that answered last first.
func (s *session) resolvers() (all []netip.AddrPort) {
	servers := readResolvConf(s.cfg.ResolvConf).servers
	first := int(s.resolver.Load()) % len(servers)
	for i := range servers {
		all = append(all, netip.AddrPortFrom(servers[(first+i)%len(servers)], s.cfg.ResolverPort))
	}
	return all
}

// connectIn carries a connection that a published port has accepted to the
// guest.
func (s *session) connectIn(host *net.TCPConn, port uint16) {
	n := s.conns.Add(1)
	defer s.conns.Add(-1)
	g, ok := (*guestTCP)(nil), false
	if n <= maxConns {
		g, ok = s.dialGuest(port)
	}
	if !ok {
		abort(host)
		return
	}
	splice(s, host, g, int(n))
}

// dialGuest connects from the gateway to a port of the guest.
func (s *session) dialGuest(port uint16) (*guestTCP, bool) {
	ctx, end := s.pending.begin(s.ctx)
	defer end()
	g := &guestTCP{wq: new(waiter.Queue)}
	ep, terr := s.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, g.wq)
	if terr != nil {
		return nil, false
	}
	g.ep = ep
	entry, ready := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	g.wq.EventRegister(&entry)
	defer g.wq.EventUnregister(&entry)
	terr = ep.Bind(tcpip.FullAddress{NIC: nicID, Addr: address(gateway)})
	if terr == nil {
		terr = ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: address(guestAddr), Port: port})
	}
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ready:
			terr = ep.LastError()
		case <-ctx.Done():
			ep.Abort()
			return nil, false
		}
	}
	if terr != nil {
		ep.Close()
		return nil, false
	}
	return g, true
}
