package usernet

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// icmpError is an ICMP or ICMPv6 error message without the packet that it quotes.
type icmpError struct {
	from      netip.Addr // the sender; an invalid address means the gateway
	typ, code uint8
	info      uint32 // the second word, such as an MTU
}

// Destination Unreachable codes (RFC 792, RFC 1812 §5.2.7.1; RFC 4443 §3.1).
const (
	netUnreachable4, hostUnreachable4, portUnreachable4, prohibited4 = 0, 1, 3, 13
	netUnreachable6, prohibited6, hostUnreachable6, portUnreachable6 = 0, 1, 3, 4
)

// unreachable returns the ICMP message for a socket's error. ok is false if err does not concern
// the destination dst.
func unreachable(dst netip.Addr, err error) (e icmpError, ok bool) {
	var code4, code6 uint8
	switch {
	case isErrno(err, unix.ENETUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL, unix.EAFNOSUPPORT):
		code4, code6 = netUnreachable4, netUnreachable6
	case isErrno(err, unix.EHOSTUNREACH, unix.EHOSTDOWN):
		code4, code6 = hostUnreachable4, hostUnreachable6
	case isErrno(err, unix.EACCES, unix.EPERM):
		code4, code6 = prohibited4, prohibited6
	default:
		return e, false
	}
	return destinationUnreachable(dst.Is4(), code4, code6), true
}

// destinationUnreachable returns "destination unreachable" with the code of the address family.
func destinationUnreachable(v4 bool, code4, code6 uint8) icmpError {
	if v4 {
		return icmpError{typ: uint8(header.ICMPv4DstUnreachable), code: code4}
	}
	return icmpError{typ: uint8(header.ICMPv6DstUnreachable), code: code6}
}

func isErrno(err error, any ...unix.Errno) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && slices.Contains(any, errno)
}

// icmpHeader is the size of the ICMP header before the quoted packet.
const icmpHeader = 8

// expire answers a packet whose TTL or hop limit expires at the gateway.
func (s *session) expire(packet []byte) {
	e := icmpError{typ: uint8(header.ICMPv4TimeExceeded), code: uint8(header.ICMPv4TTLExceeded)}
	if header.IPVersion(packet) == header.IPv6Version {
		e = icmpError{typ: uint8(header.ICMPv6TimeExceeded), code: uint8(header.ICMPv6HopLimitExceeded)}
	}
	s.sendError(e, packet)
}

// sendError sends the guest an ICMP error about a packet from the guest. The packet may be
// truncated, but must contain the IP header and 8 more bytes.
func (s *session) sendError(e icmpError, packet []byte) {
	src, dst, proto := header.IPv6(packet).SourceAddress, header.IPv6(packet).DestinationAddress, header.ICMPv6ProtocolNumber
	// Quote as much as fits into the smallest packet that every link carries (RFC 1812 §4.3.2.3;
	// RFC 4443 §2.4 c).
	quoted := minMTU6 - header.IPv6MinimumSize - icmpHeader
	v4 := header.IPVersion(packet) == header.IPv4Version
	if v4 {
		src, dst, proto = header.IPv4(packet).SourceAddress, header.IPv4(packet).DestinationAddress, header.ICMPv4ProtocolNumber
		quoted = 576 - header.IPv4MinimumSize - icmpHeader
	}
	to, from := addr(src()), e.from
	if !from.IsValid() || from.Is4() != v4 || !public(from) {
		from = gatewayFor(to)
		port := destinationUnreachable(v4, portUnreachable4, portUnreachable6)
		if e.typ == port.typ && e.code == port.code {
			from = addr(dst()) // only the destination can report an unreachable port
		}
	}
	m := make([]byte, icmpHeader, icmpHeader+min(len(packet), quoted))
	m[0], m[1] = e.typ, e.code
	binary.BigEndian.PutUint32(m[4:], e.info)
	m = append(m, packet[:cap(m)-icmpHeader]...)
	setICMPChecksum(m, from, to)
	s.sendIP(proto, from, to, m)
}

// A socket with IP_RECVERR (ip(7)) or IPV6_RECVERR queues the ICMP errors that arrive for it. Each
// is a struct sock_extended_err (linux/errqueue.h) and the sender's address.

// wantErrors makes the kernel queue the ICMP errors of a socket of dst's address family.
func wantErrors(fd int, dst netip.Addr) error {
	return setOption(fd, dst, unix.IP_RECVERR, unix.IPV6_RECVERR, 1)
}

// setHops sets the TTL or hop limit of a socket.
func setHops(fd int, dst netip.Addr, hops uint8) error {
	return setOption(fd, dst, unix.IP_TTL, unix.IPV6_UNICAST_HOPS, int(hops))
}

func setOption(fd int, dst netip.Addr, option4, option6, value int) error {
	if dst.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, option4, value)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option6, value)
}

// queuedErrors reads at most a few ICMP errors from a socket's error queue. It calls report with
// each error and with the payload that caused the error. The payload may be truncated.
func queuedErrors(fd int, report func(e icmpError, sent []byte)) {
	sent, control := make([]byte, 1500), make([]byte, 512)
	for range 16 {
		n, size, _, _, err := unix.Recvmsg(fd, sent, control, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(control[:size])
		if err != nil {
			continue
		}
		for _, m := range messages {
			switch {
			case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR,
				m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR:
				if e, ok := parseExtendedError(m.Data); ok {
					report(e, sent[:n])
				}
			}
		}
	}
}

// parseExtendedError parses a struct sock_extended_err and the sender's address that follows it. ok
// is false for an error that does not come from an ICMP message.
func parseExtendedError(b []byte) (e icmpError, ok bool) {
	const (
		size        = 16
		originICMP  = 2 // SO_EE_ORIGIN_ICMP
		originICMP6 = 3 // SO_EE_ORIGIN_ICMP6
	)
	if len(b) < size+2 || b[4] != originICMP && b[4] != originICMP6 {
		return e, false
	}
	e = icmpError{typ: b[5], code: b[6], info: binary.NativeEndian.Uint32(b[8:])}
	switch from := b[size:]; binary.NativeEndian.Uint16(from) {
	case unix.AF_INET: // struct sockaddr_in
		if len(from) >= 8 {
			e.from = netip.AddrFrom4([4]byte(from[4:]))
		}
	case unix.AF_INET6: // struct sockaddr_in6
		if len(from) >= 24 {
			e.from = netip.AddrFrom16([16]byte(from[8:]))
		}
	}
	return e, true
}

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

// echo is an echo request to the outside. The request is sent through a ping socket (icmp(7),
// net.ipv4.ping_group_range), and the reply is passed to the guest. If no reply arrives, or if this
// user may not create ping sockets, the guest gets no reply.
type echo struct {
	session    *session
	guest, dst netip.Addr
	packet     []byte // as the guest sent it
	request    []byte // the ICMP message in packet
	hops       uint8
}

// run sends the request and waits for the reply. If an ICMP error arrives instead of the reply, run
// sends this error to the guest. The kernel replaces the request's identifier and checksum.
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

// fail sends the guest the ICMP error that corresponds to the socket's error, if there is one.
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
