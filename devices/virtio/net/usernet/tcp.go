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
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// errRefused means that the destination is not open to the guest: see permission.
var errRefused = errors.New("not allowed")

// acceptTCP is called for every SYN from the guest.
func (s *session) acceptTCP(r *tcp.ForwarderRequest) {
	if !s.start(func() { s.connectOut(r) }) {
		r.Complete(false)
	}
}

// connectOut first connects on the host, and then answers the guest's SYN with the result.
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
	guest := s.handshake(ctx, r)
	end()
	if guest == nil || !s.carry(&s.out, guest, func() { splice(s, host, guest) }) {
		abort(host)
	}
}

// room reports whether one more connection is allowed. Neither side can use up all connections.
func (s *session) room(way *atomic.Int32) bool {
	return way.Load() < maxConnsWay && s.in.Load()+s.out.Load() < maxConns
}

// carry counts a connection while use runs and until the guest has received all data sent to it. It
// takes ownership of the guest's end. If the limit has been reached meanwhile, it returns false
// without calling use.
func (s *session) carry(way *atomic.Int32, guest *guestEnd, use func()) bool {
	defer way.Add(-1)
	defer guest.ep.Close()
	if way.Add(1) > maxConnsWay || s.in.Load()+s.out.Load() > maxConns {
		guest.ep.Abort()
		return false
	}
	size := s.buffers.take()
	defer s.buffers.give(size)
	guest.ep.SocketOptions().SetSendBufferSize(int64(min(size, maxInFlight)), true)
	guest.ep.SocketOptions().SetReceiveBufferSize(int64(size), true)
	use()
	s.settle(guest.ep)
	return true
}

// settle waits until the guest has acknowledged everything including the end of the stream, or the
// stack has given up. An ended connection still holds data for the guest, and a guest could end any
// number of connections. settle polls because the stack has no event for this.
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

// refuse answers a SYN according to the error of connect(2) on the host. It does not answer after a
// timeout.
func (s *session) refuse(r *tcp.ForwarderRequest, err error) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, unix.ETIMEDOUT) {
		r.Complete(false)
		return
	}
	if e, ok := unreachable(addr(r.ID().LocalAddress), err); ok {
		if packet := s.syns.packet(r.ID()); packet != nil {
			r.Complete(false)
			s.sendError(e, packet)
			return
		}
	}
	r.Complete(true)
}

// handshake answers the guest's SYN and waits for the connection. It returns nil if it fails. It
// gives up when ctx ends: a handshake that the guest does not complete must make room for others.
func (s *session) handshake(ctx context.Context, r *tcp.ForwarderRequest) *guestEnd {
	if ctx.Err() != nil || !s.room(&s.out) {
		r.Complete(true)
		return nil
	}
	id, wq, done := r.ID(), new(waiter.Queue), make(chan struct{})
	defer s.afterFunc(ctx, func() {
		for { // the endpoint becomes visible some time after CreateEndpoint is called
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
	r.Complete(err != nil)
	if err != nil {
		return nil
	}
	return &guestEnd{ep: ep, wq: wq}
}

// dialTCP connects to the guest's destination. If that is port 53 of the gateway, it connects to
// one of the host's resolvers.
func (s *session) dialTCP(ctx context.Context, dst netip.AddrPort) (*net.TCPConn, error) {
	var targets []netip.AddrPort
	timeout := dialTimeout
	if isGateway(dst.Addr()) && dst.Port() == dnsPort {
		targets, timeout = s.resolvers(), resolverTimeout
	} else if to, v := s.destination(dst); v == open {
		targets = []netip.AddrPort{to}
	} else {
		return nil, errRefused
	}
	var errs []error
	for _, t := range targets {
		d := net.Dialer{Timeout: timeout}
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

// resolvers returns the host's resolvers, starting with the last one that answered.
func (s *session) resolvers() (all []netip.AddrPort) {
	servers := readResolvConf(s.cfg.resolvConf).servers
	first := int(s.resolver.Load()) % len(servers)
	for i := range servers {
		all = append(all, netip.AddrPortFrom(servers[(first+i)%len(servers)], s.cfg.resolverPort))
	}
	return all
}

// connectIn forwards a connection accepted on a published port to the guest.
func (s *session) connectIn(host *net.TCPConn, port uint16) {
	if s.room(&s.in) {
		if g, ok := s.dialGuest(port); ok && s.carry(&s.in, g, func() { splice(s, host, g) }) {
			return
		}
	}
	abort(host)
}

// dialGuest connects from the gateway to a port of the guest.
func (s *session) dialGuest(port uint16) (*guestEnd, bool) {
	ctx, end := s.pending.begin(s.ctx, netip.AddrPortFrom(s.cfg.guest, port))
	defer end()
	g := &guestEnd{wq: new(waiter.Queue)}
	ep, terr := s.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, g.wq)
	if terr != nil {
		return nil, false
	}
	g.ep = ep
	ready, stop := g.listen(waiter.WritableEvents)
	defer stop()
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
