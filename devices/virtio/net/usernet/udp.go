package usernet

import (
	"bytes"
	"cmp"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// handleUDP is called for the first datagram of a flow, and for every query to the name server. If
// handleUDP returns false, the guest gets an ICMP error: port unreachable.
func (s *session) handleUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	guest := netip.AddrPortFrom(addr(id.RemoteAddress), id.RemotePort)
	dst := netip.AddrPortFrom(addr(id.LocalAddress), id.LocalPort)
	if isGateway(dst.Addr()) && dst.Port() == dnsPort {
		s.resolve(guest, dst, pkt.Data().AsRange().ToSlice())
		return true
	}
	to, v := s.destination(dst)
	switch v {
	case nobody:
		return false
	case refused:
		s.prohibit(pkt)
		return true
	}
	host, err := dialUDP(to)
	if err != nil {
		if e, ok := unreachable(dst.Addr(), err); ok {
			s.sendError(e, quote(pkt))
		}
		return true
	}
	g := &guestEnd{wq: new(waiter.Queue)}
	ep, terr := udp.NewForwarderRequest(s.stack, id, pkt.Clone()).CreateEndpoint(g.wq)
	if terr != nil {
		host.Close()
		return true // another datagram has created the flow, or the stack is closing
	}
	ep.SocketOptions().SetReceiveTTL(true)
	ep.SocketOptions().SetReceiveHopLimit(true)
	g.ep = ep
	out := &hostUDP{UDPConn: host, session: s, guest: guest, dst: dst}
	f := new(flow)
	s.runFlow(f, g, func() { host.Close() }, out.send)
	s.start(func() {
		defer s.flows.remove(f)
		for {
			err := s.pieces.read(host, func(datagram []byte) {
				f.touch()
				g.ep.Write(bytes.NewReader(datagram), tcpip.WriteOptions{})
			})
			if err == nil {
				continue
			}
			if !out.isAnswer(err) {
				return
			}
			out.forwardErrors()
		}
	})
	return true
}

// quote returns as much of a packet from the guest as an ICMP error must contain.
func quote(pkt *stack.PacketBuffer) []byte {
	q := append(append([]byte(nil), pkt.NetworkHeader().Slice()...), pkt.TransportHeader().Slice()...)
	data := pkt.Data().AsRange().ToSlice()
	return append(q, data[:min(len(data), minMTU6)]...)
}

// hostUDP is the host's end of a flow.
type hostUDP struct {
	*net.UDPConn
	session *session
	guest   netip.AddrPort
	dst     netip.AddrPort // the address that the guest uses
	hops    uint8          // current TTL or hop limit of the socket; 0: the host's default
}

// dialUDP returns a connected socket that queues ICMP errors. It clears SO_BROADCAST, which package
// net sets, so that connect(2) rejects the broadcast addresses of the host's networks. No list of
// prefixes contains these addresses.
func dialUDP(dst netip.AddrPort) (*net.UDPConn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		cerr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 0)
			err = cmp.Or(err, wantErrors(int(fd), dst.Addr().Unmap()))
		})
		return cmp.Or(cerr, err)
	}}
	c, err := d.Dial("udp", dst.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// send sends the datagram p with the given TTL or hop limit.
func (h *hostUDP) send(p []byte, hops uint8) {
	if hops != h.hops {
		h.control(func(fd int) { setHops(fd, h.dst.Addr(), hops) })
		h.hops = hops
	}
	for range 2 { // the first call may return the error of an earlier datagram
		_, err := h.Write(p)
		if err == nil {
			return
		}
		h.forwardErrors()
		if !h.isAnswer(err) {
			return
		}
	}
}

func (h *hostUDP) control(f func(fd int)) {
	if raw, err := h.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// isAnswer reports whether an ICMP message caused the error. In that case the socket can still be
// used.
func (*hostUDP) isAnswer(err error) bool {
	return isErrno(err, unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.EPROTO,
		unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.EACCES, unix.EMSGSIZE)
}

// forwardErrors sends the guest the errors in the socket's error queue.
func (h *hostUDP) forwardErrors() {
	h.control(func(fd int) {
		queuedErrors(fd, func(e icmpError, sent []byte) {
			h.session.sendError(e, ipPacket(unix.IPPROTO_UDP, 1, h.guest.Addr(), h.dst.Addr(), udpDatagram(h.guest, h.dst, sent)))
		})
	})
}

// runFlow registers f and calls send for every datagram from the guest, with the remaining TTL or
// hop limit. When f ends, runFlow closes the guest's end and calls closeHost.
func (s *session) runFlow(f *flow, g *guestEnd, closeHost func(), send func(p []byte, hops uint8)) {
	ended := make(chan struct{})
	f.close = sync.OnceFunc(func() {
		close(ended)
		closeHost()
		g.ep.Close()
	})
	s.flows.add(f)
	stop := s.afterFunc(s.ctx, f.close)
	if !s.start(func() {
		defer stop()
		defer s.flows.remove(f)
		events, unlisten := g.listen(waiter.ReadableEvents)
		defer unlisten()
		for {
			var datagram bytes.Buffer
			res, terr := g.ep.Read(&datagram, tcpip.ReadOptions{})
			switch terr.(type) {
			case nil:
				f.touch()
				// The gateway counts as a router. judge has already rejected packets that expire here.
				cm := res.ControlMessages
				send(datagram.Bytes(), max(cm.TTL, cm.HopLimit, 2)-1)
				continue
			case *tcpip.ErrWouldBlock:
			default:
				return
			}
			select {
			case <-events:
			case <-ended:
				return
			}
		}
	}) {
		stop()
		s.flows.remove(f)
	}
}

// pieces is a pool of buffers, each for one datagram from a host socket.
type pieces struct{ sync.Pool }

// read waits for a datagram and calls use with it. The datagram is valid until use returns. read
// holds no buffer while it waits.
func (p *pieces) read(c *net.UDPConn, use func([]byte)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var rerr error
	err = raw.Read(func(fd uintptr) (done bool) {
		piece, ok := p.Get().(*[pieceSize]byte)
		if !ok {
			piece = new([pieceSize]byte)
		}
		defer p.Put(piece)
		n := 0
		for rerr = unix.EINTR; rerr == unix.EINTR; {
			n, rerr = unix.Read(int(fd), piece[:])
		}
		if rerr == nil {
			use(piece[:n])
		}
		return rerr != unix.EAGAIN
	})
	return cmp.Or(err, rerr)
}

// publishUDP forwards datagrams of a published port. Each client has its own port on the gateway.
func (s *session) publishUDP(host *net.UDPConn, port uint16) {
	type client struct {
		*flow
		guest *guestEnd
	}
	var mu sync.Mutex
	clients := map[netip.AddrPort]client{}
	piece := new([pieceSize]byte)
	for s.ctx.Err() == nil {
		n, from, err := host.ReadFromUDPAddrPort(piece[:])
		if err != nil {
			if !s.again(host.SetDeadline, err) {
				return
			}
			continue
		}
		mu.Lock()
		c, ok := clients[from]
		mu.Unlock()
		if !ok {
			g := s.dialGuestUDP(port)
			if g == nil {
				continue
			}
			c = client{&flow{origin: host}, g}
			mu.Lock()
			clients[from] = c
			mu.Unlock()
			forget := func() {
				mu.Lock()
				defer mu.Unlock()
				if clients[from] == c {
					delete(clients, from)
				}
			}
			s.runFlow(c.flow, g, forget, func(p []byte, _ uint8) { host.WriteToUDPAddrPort(p, from) })
		}
		c.touch()
		c.guest.ep.Write(bytes.NewReader(piece[:n]), tcpip.WriteOptions{})
	}
}

// dialGuestUDP returns a new port on the gateway that is connected to a port of the guest.
func (s *session) dialGuestUDP(port uint16) *guestEnd {
	g := &guestEnd{wq: new(waiter.Queue)}
	ep, terr := s.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, g.wq)
	if terr != nil {
		return nil
	}
	g.ep = ep
	if ep.Bind(tcpip.FullAddress{NIC: nicID, Addr: address(gateway)}) != nil ||
		ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: address(s.cfg.guest), Port: port}) != nil {
		ep.Close()
		return nil
	}
	return g
}

// flow is a bidirectional stream of datagrams between two addresses.
type flow struct {
	origin *net.UDPConn // the published port whose client started the flow; nil: the guest started it
	last   atomic.Int64 // Unix nanoseconds of the last datagram
	close  func()       // ends both directions; may be called more than once
}

func (f *flow) touch() { f.last.Store(time.Now().UnixNano()) }

// flows holds all flows of a session. The guest owns the flows that it started, and each published
// port owns those of its clients. At the limit, a new flow replaces the flow that has been idle
// longest among those of the owner with the most flows. So a flood through one owner ends no flow
// of an owner that has less than its share.
type flows struct {
	mu  sync.Mutex
	all map[*flow]struct{}
}

func newFlows() *flows { return &flows{all: map[*flow]struct{}{}} }

func (s *flows) add(f *flow) {
	f.touch()
	s.mu.Lock()
	var out *flow
	if len(s.all) >= maxFlows {
		out = s.replaceable(f.origin)
		delete(s.all, out)
	}
	s.all[f] = struct{}{}
	s.mu.Unlock()
	if out != nil {
		out.close()
	}
}

// replaceable returns the flow that a new flow of the owner newcomer replaces. s.mu must be held.
func (s *flows) replaceable(newcomer *net.UDPConn) (oldest *flow) {
	of := map[*net.UDPConn]int{newcomer: 1}
	for f := range s.all {
		of[f.origin]++
	}
	most := newcomer
	for who, n := range of {
		if n > of[most] {
			most = who
		}
	}
	for f := range s.all {
		// If no owner has more than one flow, no owner has more flows than the newcomer.
		if (f.origin == most || of[most] == 1) && (oldest == nil || f.last.Load() < oldest.last.Load()) {
			oldest = f
		}
	}
	return oldest
}

func (s *flows) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

func (s *flows) remove(f *flow) {
	s.mu.Lock()
	delete(s.all, f)
	s.mu.Unlock()
	f.close()
}

// expire closes the flows that have been idle for longer than flowTimeout.
func (s *flows) expire(now time.Time) {
	s.mu.Lock()
	var idle []*flow
	for f := range s.all {
		if now.UnixNano()-f.last.Load() > int64(flowTimeout) {
			delete(s.all, f)
			idle = append(idle, f)
		}
	}
	s.mu.Unlock()
	for _, f := range idle {
		f.close()
	}
}
