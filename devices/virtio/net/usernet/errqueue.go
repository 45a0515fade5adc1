package usernet

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// A socket with IP_RECVERR (ip(7)) or IPV6_RECVERR queues the ICMP errors that
// arrive for it: struct sock_extended_err (linux/errqueue.h) and the sender's address.

// wantErrors makes the kernel queue the ICMP errors of a socket of dst's address family.
func wantErrors(fd int, dst netip.Addr) error {
	if dst.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1)
}

// setHops sets the TTL or hop limit of a socket.
func setHops(fd int, dst netip.Addr, hops uint8) error {
	if dst.Is4() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, int(hops))
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, int(hops))
}

// queuedErrors reads the ICMP errors from a socket's error queue, at most a few. It calls report
// with each error and with the payload that caused it, which may be truncated.
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

// parseExtendedError parses a struct sock_extended_err and the offender's address behind it. ok is
// false for an error that does not come from an ICMP message.
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
