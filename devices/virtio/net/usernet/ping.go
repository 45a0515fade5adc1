package usernet

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// handleEcho is called for every echo request. It returns false if the stack should answer, because
// the request is for the gateway itself.
func (s *session) handleEcho(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	guest, dst := addr(id.RemoteAddress), addr(id.LocalAddress)
	if isGateway(dst) {
		return false
	}
	if _, v := s.destination(netip.AddrPortFrom(dst, 0)); v != open {
		if v == refused {
			s.prohibit(pkt)
		}
		return true
	}
	e := &echo{session: s, guest: guest, dst: dst, packet: quote(pkt), request: request(pkt), hops: hops(pkt) - 1}
	if t := e.request[0]; t != uint8(header.ICMPv4Echo) && t != uint8(header.ICMPv6EchoRequest) {
		return true
	}
	ctx, end := s.pings.begin(s.ctx, dst)
	if !s.start(func() {
		defer end()
		e.run(ctx)
	}) {
		end()
	}
	return true
}

// request returns the ICMP message of a packet.
func request(pkt *stack.PacketBuffer) []byte {
	return append(append([]byte(nil), pkt.TransportHeader().Slice()...), pkt.Data().AsRange().ToSlice()...)
}

// hops returns the TTL or hop limit of a packet, before this router decrements it.
func hops(pkt *stack.PacketBuffer) uint8 {
	h := pkt.NetworkHeader().Slice()
	if pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		return header.IPv4(h).TTL()
	}
	return header.IPv6(h).HopLimit()
}

// echo is an echo request to the outside. It is sent through a ping socket (icmp(7),
// net.ipv4.ping_group_range), and the reply is passed to the guest. Without a reply, or if the host
// gives this user no ping sockets, the guest gets no reply.
type echo struct {
	session    *session
	guest, dst netip.Addr
	packet     []byte // as the guest sent it
	request    []byte // its ICMP message
	hops       uint8
}

// run sends the request and waits for the reply. If an ICMP error arrives instead, it sends the
// error to the guest. The kernel replaces identifier and checksum of the request.
func (e *echo) run(ctx context.Context) {
	to := e.session.cfg.outside(netip.AddrPortFrom(e.dst, 0)).Addr()
	f, fd, err := pingSocket(to)
	if err != nil {
		e.fail(err)
		return
	}
	defer f.Close()
	wantErrors(fd, to) // otherwise an ICMP error would go unnoticed
	if e.hops > 0 {
		setHops(fd, to, e.hops)
	}
	defer context.AfterFunc(ctx, func() { f.SetDeadline(time.Unix(1, 0)) })()
	answer := make([]byte, 65536)
	n, err := f.Write(e.request)
	for err == nil {
		if n, err = f.Read(answer); err == nil && e.isReply(answer[:n]) {
			e.reply(answer[:n])
			return
		}
	}
	told := false
	queuedErrors(fd, func(m icmpError, _ []byte) {
		if !told {
			told = true
			e.session.sendError(m, e.packet)
		}
	})
	if !told {
		e.fail(err)
	}
}

// fail sends the guest the ICMP error for an error of the socket, if there is one.
func (e *echo) fail(err error) {
	if told, ok := unreachable(e.dst, err); ok {
		e.session.sendError(told, e.packet)
	}
}

func (e *echo) reply(answer []byte) {
	proto := header.ICMPv4ProtocolNumber
	if e.dst.Is6() {
		proto = header.ICMPv6ProtocolNumber
	}
	copy(answer[4:6], e.request[4:6])
	setICMPChecksum(answer, e.dst, e.guest)
	e.session.sendIP(proto, e.dst, e.guest, answer)
}

func (e *echo) isReply(m []byte) bool {
	if len(m) < icmpHeader || string(m[6:8]) != string(e.request[6:8]) {
		return false
	}
	if e.dst.Is4() {
		return m[0] == uint8(header.ICMPv4EchoReply)
	}
	return m[0] == uint8(header.ICMPv6EchoReply)
}

// errNoPing means that this user has no ping sockets. It does not describe the destination.
var errNoPing = errors.New("no ping sockets")

// pingSocket returns a connected ping socket.
func pingSocket(to netip.Addr) (f *os.File, fd int, err error) {
	family, proto, sa := unix.AF_INET, unix.IPPROTO_ICMP, unix.Sockaddr(nil)
	if to.Is4() {
		sa = &unix.SockaddrInet4{Addr: to.As4()}
	} else {
		family, proto, sa = unix.AF_INET6, unix.IPPROTO_ICMPV6, &unix.SockaddrInet6{Addr: to.As16()}
	}
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return nil, -1, errNoPing
	}
	if err := unix.Connect(fd, sa); err != nil {
		unix.Close(fd)
		return nil, -1, err
	}
	return os.NewFile(uintptr(fd), "ping"), fd, nil
}
