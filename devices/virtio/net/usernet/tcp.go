package usernet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

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
// the guest in order, and none is lost: RACK's timers (RFC 8985) would take a guest
// that waits for its CPU for a loss. And no old packet comes late, so there is no
// TIME-WAIT, in which the stack would be deaf to a guest that connects again from
// the same port.
func tuneTCP(st *stack.Stack) tcpip.Error {
	recovery, timeWait := tcpip.TCPRecovery(0), tcpip.TCPTimeWaitTimeoutOption(0)
	if err := st.SetTransportProtocolOption(tcp.ProtocolNumber, &recovery); err != nil {
		return err
	}
	return st.SetTransportProtocolOption(tcp.ProtocolNumber, &timeWait)
}

// acceptTCP is called for a SYN of the guest's.
func (s *session) acceptTCP(r *tcp.ForwarderRequest) {
	if !s.start(func() { s.connectOut(r) }) {
		r.Complete(false)
	}
}

// connectOut makes the connection on the host first: the guest's is answered
// with what the outside answered.
func (s *session) connectOut(r *tcp.ForwarderRequest) {
	id := r.ID()
	dst := netip.AddrPortFrom(addr(id.LocalAddress), id.LocalPort)
	if isGateway(dst.Addr()) && dst.Port() == dnsPort && s.readsNames() {
		s.acceptNames(r)
		return
	}
	ctx, end := s.pending.begin(s.ctx, dst)
	defer end()
	host, err := s.dialTCP(ctx, dst)
	if err != nil {
		s.refuse(r, err)
		return
	}
	if !s.room(&s.out) {
		abort(host)
		r.Complete(true)
		return
	}
	ep, wq, terr := s.handshake(ctx, r)
	end()
	if terr != nil {
		abort(host)
		r.Complete(true)
		return
	}
	r.Complete(false)
	guest := &guestTCP{ep: ep, wq: wq}
	if !s.carry(&s.out, guest, func() { splice(s, host, guest) }) {
		abort(host)
	}
}

// conns is a number of connections.
type conns struct{ atomic.Int32 }

// room says whether there may be one more connection: neither who connects from
// outside nor the guest itself takes all that there are.
func (s *session) room(way *conns) bool {
	return way.Load() < maxConnsWay && s.in.Load()+s.out.Load() < maxConns
}

// carry counts a connection while use uses it and until the guest has all that it was sent. It takes the guest's end, or says that
// others came in between.
func (s *session) carry(way *conns, guest *guestTCP, use func()) bool {
	defer way.Add(-1)
	defer guest.ep.Close()
	if way.Add(1) > maxConnsWay || s.in.Load()+s.out.Load() > maxConns {
		guest.ep.Abort()
		return false
	}
	size := s.buffers.take()
	defer s.buffers.give(size)
	guest.ep.SocketOptions().SetSendBufferSize(int64(min(size, maxOnTheWay)), true)
	guest.ep.SocketOptions().SetReceiveBufferSize(int64(size), true)
	use()
	s.settle(guest.ep)
	return true
}

// settle waits until the guest has acknowledged the end of what it was sent, or the stack gave up: what a connection that has ended
// keeps for the guest is memory too, and a guest could end any number of them. The stack tells nobody of this.
func (s *session) settle(ep tcpip.Endpoint) {
	for wait := time.Millisecond; ; wait = min(2*wait, time.Second) {
		switch tcp.EndpointState(ep.State()) {
		case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
		default:
			return
		}
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			return
		}
	}
}

// refuse answers a SYN with what the host's connect(2) said. No answer from
// outside is no answer here.
func (s *session) refuse(r *tcp.ForwarderRequest, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.ETIMEDOUT) {
		r.Complete(false)
		return
	}
	if e, ok := unreachable(addr(r.ID().LocalAddress), err); ok {
		if packet := s.syns.packet(r.ID()); packet != nil {
			r.Complete(false)
			s.tell(e, packet)
			return
		}
	}
	r.Complete(true)
}

// handshake answers the guest's SYN, until ctx ends: a guest that does not go on
// must make room for others.
func (s *session) handshake(ctx context.Context, r *tcp.ForwarderRequest) (tcpip.Endpoint, *waiter.Queue, tcpip.Error) {
	id, wq, done := r.ID(), new(waiter.Queue), make(chan struct{})
	if ctx.Err() != nil {
		return nil, nil, &tcpip.ErrAborted{}
	}
	defer s.afterFunc(ctx, func() {
		for { // the stack shows the endpoint some time after it was asked for it
			if ep := s.stack.FindTransportEndpoint(networkProtocol(addr(id.LocalAddress)), tcp.ProtocolNumber, id, nicID); ep != nil {
				ep.Abort()
			}
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})()
	defer close(done)
	ep, err := r.CreateEndpoint(wq)
	return ep, wq, err
}

// dialTCP connects to a destination of the guest's choice, or to a resolver for
// the gateway's port 53.
func (s *session) dialTCP(ctx context.Context, dst netip.AddrPort) (*net.TCPConn, error) {
	var targets []netip.AddrPort
	patience := dialTimeout
	if isGateway(dst.Addr()) && dst.Port() == dnsPort {
		targets, patience = s.resolvers(), resolverPatience
	} else if to, v := s.destination(dst); v == open {
		targets = []netip.AddrPort{to}
	} else {
		return nil, errRefused
	}
	var errs []error
	for _, t := range targets {
		d := net.Dialer{Timeout: patience}
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
	if s.room(&s.in) {
		if g, ok := s.dialGuest(port); ok && s.carry(&s.in, g, func() { splice(s, host, g) }) {
			return
		}
	}
	abort(host)
}

// dialGuest connects from the gateway to a port of the guest.
func (s *session) dialGuest(port uint16) (*guestTCP, bool) {
	ctx, end := s.pending.begin(s.ctx, netip.AddrPortFrom(s.cfg.guest, port))
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
		terr = ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: address(s.cfg.guest), Port: port})
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
