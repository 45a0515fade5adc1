package usernet

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const dnsTimeout = 10 * time.Second

// acceptUDP is called for the first datagram of a flow. False gives the guest
// an ICMP error: port unreachable.
func (s *session) acceptUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	dst := netip.AddrPortFrom(addr(id.LocalAddress), id.LocalPort)
	dns, ok := dst.Addr() == gateway && dst.Port() == dnsPort, false
	if dns {
		dst = s.resolvers()[0]
	} else if dst, ok = s.destination(dst); !ok {
		return false
	}
	host, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(dst))
	if err != nil && dns && s.readsNames() { // a host without a network: the gateway has answers of its own
		host, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(fallbackResolver, dnsPort)))
	}
	if err != nil {
		return false
	}
	g := &guestUDP{wq: new(waiter.Queue)}
	ep, terr := r.CreateEndpoint(g.wq)
	if terr != nil {
		host.Close()
		return true // a datagram of this flow came in between, or the stack ends
	}
	g.ep = ep
	f := &flow{timeout: flowTimeout}
	if dns {
		f.timeout = dnsTimeout
	}
	var asked atomic.Bool // the host's resolver
	s.runFlow(f, g, func() { host.Close() }, func(p []byte) {
		if dns && s.readsNames() {
			if answer := s.ownAnswer(p); answer != nil {
				g.ep.Write(bytes.NewReader(answer), tcpip.WriteOptions{})
				return
			}
		}
		asked.Store(true)
		host.Write(p)
	})
	s.start(func() {
		defer s.flows.remove(f)
		answers := 0
		for {
			piece, n, err := s.readUDP(host)
			if err != nil {
				break
			}
			answers++
			f.touch()
			if dns {
				s.heard(piece[:n])
			}
			g.ep.Write(bytes.NewReader(piece[:n]), tcpip.WriteOptions{})
			s.pieces.put(piece)
		}
		if dns && asked.Load() && answers == 0 && s.ctx.Err() == nil {
			s.resolver.Add(1) // the next question goes to another
		}
	})
	return true
}

// guestUDP is the guest's end of a flow.
type guestUDP struct {
	ep tcpip.Endpoint
	wq *waiter.Queue
}

// runFlow enters f and gives every datagram of the guest's to send, until f ends;
// then it closes the guest's end and calls closeHost.
func (s *session) runFlow(f *flow, g *guestUDP, closeHost func(), send func([]byte)) {
	ended := make(chan struct{})
	f.close = sync.OnceFunc(func() {
		close(ended)
		closeHost()
		g.ep.Close()
	})
	s.flows.add(f)
	stop := context.AfterFunc(s.ctx, f.close)
	if !s.start(func() {
		defer stop()
		defer s.flows.remove(f)
		entry, events := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
		g.wq.EventRegister(&entry)
		defer g.wq.EventUnregister(&entry)
		for {
			var datagram bytes.Buffer
			_, terr := g.ep.Read(&datagram, tcpip.ReadOptions{})
			switch terr.(type) {
			case nil:
				f.touch()
				send(datagram.Bytes())
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

// readUDP waits for a datagram and takes a buffer only when there is one.
func (s *session) readUDP(c *net.UDPConn) (*[pieceSize]byte, int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, 0, err
	}
	return readPiece(raw, &s.pieces)
}

// publishUDP carries datagrams between the clients of a published port and the
// guest: each client has a port of the gateway's.
func (s *session) publishUDP(host *net.UDPConn, port uint16) {
	clients := map[netip.AddrPort]*flow{}
	guests := map[*flow]*guestUDP{}
	var mu sync.Mutex
	piece := new([pieceSize]byte)
	for s.ctx.Err() == nil {
		n, from, err := host.ReadFromUDPAddrPort(piece[:])
		if err != nil {
			if !s.again(host.SetReadDeadline, err) {
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
			f = &flow{timeout: flowTimeout}
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
			s.runFlow(f, g, forget, func(p []byte) { host.WriteToUDPAddrPort(p, from) })
		}
		f.touch()
		g.ep.Write(bytes.NewReader(piece[:n]), tcpip.WriteOptions{})
	}
}

// dialGuestUDP is a new port of the gateway's, connected to one of the guest's.
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
