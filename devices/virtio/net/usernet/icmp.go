package usernet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// icmpError is an ICMP or ICMPv6 error message without the packet that it quotes.
type icmpError struct {
	from      netip.Addr // the sender; if invalid, the gateway
	typ, code uint8
	info      uint32 // the second word, such as an MTU
}

// Errors that the gateway itself sends.
var (
	expired4 = icmpError{typ: uint8(header.ICMPv4TimeExceeded), code: uint8(header.ICMPv4TTLExceeded)}
	expired6 = icmpError{typ: uint8(header.ICMPv6TimeExceeded), code: uint8(header.ICMPv6HopLimitExceeded)}
)

// Destination Unreachable codes (RFC 792, RFC 1812 §5.2.7.1; RFC 4443 §3.1).
const (
	netUnreachable4, hostUnreachable4, portUnreachable4, prohibited4 = 0, 1, 3, 13
	netUnreachable6, prohibited6, hostUnreachable6, portUnreachable6 = 0, 1, 3, 4
)

// unreachable returns the ICMP message for an error of a host's socket. ok is false if the error
// does not describe the destination.
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
	if dst.Is4() {
		return icmpError{typ: uint8(header.ICMPv4DstUnreachable), code: code4}, true
	}
	return icmpError{typ: uint8(header.ICMPv6DstUnreachable), code: code6}, true
}

func isErrno(err error, any ...unix.Errno) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && slices.Contains(any, errno)
}

// maxQuoted returns how many bytes of a packet an error quotes: what fits into the smallest packet
// that every link carries (RFC 1812 §4.3.2.3; RFC 4443 §2.4 c).
func maxQuoted(v4 bool) int {
	if v4 {
		return 576 - header.IPv4MinimumSize - icmpHeader
	}
	return minMTU6 - header.IPv6MinimumSize - icmpHeader
}

// icmpHeader is the size of the ICMP header before the quoted packet.
const icmpHeader = 8

// expire answers a packet whose TTL or hop limit ends at the gateway.
func (s *session) expire(packet []byte) {
	e := expired4
	if header.IPVersion(packet) == header.IPv6Version {
		e = expired6
	}
	s.sendError(e, packet)
}

// sendError sends the guest an ICMP error about one of its packets. The packet may be truncated,
// but must contain its IP header and 8 more bytes.
func (s *session) sendError(e icmpError, packet []byte) {
	src, dst, proto := header.IPv6(packet).SourceAddress, header.IPv6(packet).DestinationAddress, header.ICMPv6ProtocolNumber
	v4 := header.IPVersion(packet) == header.IPv4Version
	if v4 {
		src, dst, proto = header.IPv4(packet).SourceAddress, header.IPv4(packet).DestinationAddress, header.ICMPv4ProtocolNumber
	}
	to, from := addr(src()), e.from
	if !from.IsValid() || from.Is4() != v4 || !public(from) {
		from = gatewayFor(to)
		if e.isPortUnreachable(v4) {
			from = addr(dst()) // only the destination can report that
		}
	}
	m := make([]byte, icmpHeader, icmpHeader+min(len(packet), maxQuoted(v4)))
	m[0], m[1] = e.typ, e.code
	binary.BigEndian.PutUint32(m[4:], e.info)
	m = append(m, packet[:cap(m)-icmpHeader]...)
	setICMPChecksum(m, from, to)
	s.sendIP(proto, from, to, m)
}

func (e icmpError) isPortUnreachable(v4 bool) bool {
	if v4 {
		return e.typ == uint8(header.ICMPv4DstUnreachable) && e.code == portUnreachable4
	}
	return e.typ == uint8(header.ICMPv6DstUnreachable) && e.code == portUnreachable6
}
