package usernet

import (
	"context"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// echo sends an echo request on to whom it is for, through a ping socket (icmp(7),
// net.ipv4.ping_group_range), and the answer back. Without an answer, or where
// the host has no such sockets for this user, the guest gets none.
func (s *session) echo(mac tcpip.LinkAddress, packet []byte) {
	ip := header.IPv4(packet)
	src, dst := addr(ip.SourceAddress()), addr(ip.DestinationAddress())
	if s.inside(dst) {
		return
	}
	if !s.cfg.Allowed(dst) {
		s.refusals.note(dst)
		s.prohibitEcho(packet)
		return
	}
	if s.pings.Add(1) > maxPings {
		s.pings.Add(-1)
		return
	}
	request := append([]byte(nil), ip.Payload()...)
	ident := header.ICMPv4(request).Ident()
	if !s.start(func() {
		defer s.pings.Add(-1)
		if answer, err := ping(s, dst, request); err == nil {
			s.recv.send(frame{raw: echoFrame(mac, dst, src, ident, answer)})
		}
	}) {
		s.pings.Add(-1)
	}
}

// ping sends an ICMP echo request and returns the reply. The kernel puts in its
// own identifier and checksum.
func ping(s *session, dst netip.Addr, request []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "ping")
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: dst.As4()}); err != nil {
		return nil, err
	}
	if err := f.SetDeadline(time.Now().Add(pingTimeout)); err != nil {
		return nil, err
	}
	defer context.AfterFunc(s.ctx, func() { f.SetDeadline(time.Unix(1, 0)) })()
	if _, err := f.Write(request); err != nil {
		return nil, err
	}
	answer := make([]byte, 65536)
	for {
		n, err := f.Read(answer)
		if err != nil {
			return nil, err
		}
		h := header.ICMPv4(answer[:n])
		if n >= header.ICMPv4MinimumSize && h.Type() == header.ICMPv4EchoReply && h.Sequence() == header.ICMPv4(request).Sequence() {
			return answer[:n], nil
		}
	}
}

// echoFrame is a whole frame with an echo reply.
func echoFrame(to tcpip.LinkAddress, src, dst netip.Addr, ident uint16, message []byte) []byte {
	f := make([]byte, ethBytes+header.IPv4MinimumSize+len(message))
	h := header.ICMPv4(putHeaders(f, to, header.ICMPv4ProtocolNumber, src, dst).Payload())
	copy(h, message)
	h.SetIdent(ident)
	h.SetChecksum(0)
	h.SetChecksum(^checksum.Checksum(h, 0))
	return f
}
