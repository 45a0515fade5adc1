package usernet

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// handleUDP is called for the first datagram of a flow, and for every query to the name server. If
// it returns false, the guest gets an ICMP error: port unreachable.
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
	g := &guestUDP{wq: new(waiter.Queue)}
	ep, terr := udp.NewForwarderRequest(s.stack, id, pkt.Clone()).CreateEndpoint(g.wq)
	if terr != nil {
		host.Close()
		return true // another datagram has created the flow meanwhile, or the stack is closing
	}
	ep.SocketOptions().SetReceiveTTL(true)
	ep.SocketOptions().SetReceiveHopLimit(true)
	g.ep = ep
	out := &hostUDP{UDPConn: host, session: s, guest: guest, dst: dst}
	f := &flow{timeout: flowTimeout}
	s.runFlow(f, g, func() { host.Close() }, out.send)
	s.start(func() {
		defer s.flows.remove(f)
		for {
			piece, n, err := s.readUDP(host)
			if err != nil {
				if !out.isAnswer(err) {
					return
				}
				out.forwardErrors()
				continue
			}
			f.touch()
			g.ep.Write(bytes.NewReader(piece[:n]), tcpip.WriteOptions{})
			s.pieces.put(piece)
		}
	})
	return true
}

// quote returns as much of a packet from the guest as an ICMP error needs.
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
// net sets, so that connect(2) rejects the broadcast addresses of the host's networks: no list of
// prefixes contains those.
func dialUDP(dst netip.AddrPort) (*net.UDPConn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		if cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 0) }); cerr != nil {
			return cerr
		}
		return err
	}}
	conn, err := d.Dial("udp", dst.String())
	if err != nil {
		return nil, err
	}
	c := conn.(*net.UDPConn)
	raw, err := c.SyscallConn()
	if err == nil {
		if cerr := raw.Control(func(fd uintptr) { err = wantErrors(int(fd), dst.Addr().Unmap()) }); cerr != nil {
			err = cerr
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// send sends a datagram with this TTL or hop limit.
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

// isAnswer reports whether an error of the socket was caused by an ICMP answer, so that the socket
// can still be used.
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

// guestUDP is the guest's end of a flow.
type guestUDP struct {
	ep tcpip.Endpoint
	wq *waiter.Queue
}

// runFlow registers f and calls send for every datagram from the guest, with the remaining TTL or
// hop limit. When f ends, it closes the guest's end and calls closeHost.
func (s *session) runFlow(f *flow, g *guestUDP, closeHost func(), send func(p []byte, hops uint8)) {
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
		entry, events := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
		g.wq.EventRegister(&entry)
		defer g.wq.EventUnregister(&entry)
		for {
			var datagram bytes.Buffer
			res, terr := g.ep.Read(&datagram, tcpip.ReadOptions{})
			switch terr.(type) {
			case nil:
				f.touch()
				// The gateway is a router too. judge has already rejected packets that expire here.
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

// readUDP waits for a datagram. It takes a buffer only when there is one.
func (s *session) readUDP(c *net.UDPConn) (*[pieceSize]byte, int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	return readPiece(raw, &s.pieces)
}

// publishUDP forwards datagrams between the clients of a published port and the guest. Each client
// has its own port on the gateway.
func (s *session) publishUDP(host *net.UDPConn, port uint16) {
	clients := map[netip.AddrPort]*flow{}
	guests := map[*flow]*guestUDP{}
	var mu sync.Mutex
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
		f := clients[from]
		g := guests[f]
		mu.Unlock()
		if g == nil {
			if g = s.dialGuestUDP(port); g == nil {
				continue
			}
			f = &flow{origin: host, timeout: flowTimeout}
			mu.Lock()
			clients[from], guests[f] = f, g
			mu.Unlock()
			forget := func() {
				mu.Lock()
				defer mu.Unlock()
				if clients[from] == f {
					delete(clients, from)
				}
				delete(guests, f)
			}
			s.runFlow(f, g, forget, func(p []byte, _ uint8) { host.WriteToUDPAddrPort(p, from) })
		}
		f.touch()
		g.ep.Write(bytes.NewReader(piece[:n]), tcpip.WriteOptions{})
	}
}

// dialGuestUDP returns a new port on the gateway that is connected to a port of the guest.
func (s *session) dialGuestUDP(port uint16) *guestUDP {
	g := &guestUDP{wq: new(waiter.Queue)}
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
