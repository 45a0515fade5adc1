package usernet

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/header/parse"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// judged puts the policy before what handles the first datagram of a flow: one
// that is refused is answered with "communication administratively prohibited"
// (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
func (s *session) judged(handle func(stack.TransportEndpointID, *stack.PacketBuffer) bool) func(stack.TransportEndpointID, *stack.PacketBuffer) bool {
	return func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		if dst := addr(id.LocalAddress); !s.inside(dst) && !s.cfg.Allowed(dst) {
			s.refusals.note(dst)
			s.prohibit(pkt)
			return true
		}
		return handle(id, pkt)
	}
}

// prohibit answers a packet of the guest's whose headers were parsed.
func (s *session) prohibit(pkt *stack.PacketBuffer) {
	switch p := s.stack.NetworkProtocolInstance(pkt.NetworkProtocolNumber).(type) {
	case stack.RejectIPv4WithHandler:
		p.SendRejectionError(pkt, stack.RejectIPv4WithICMPAdminProhibited, true)
	case stack.RejectIPv6WithHandler:
		p.SendRejectionError(pkt, stack.RejectIPv6WithICMPAdminProhibited, true)
	}
}

// prohibitEcho answers a whole echo request, which the stack has not seen.
func (s *session) prohibitEcho(packet []byte) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	defer pkt.DecRef()
	pkt.NICID = nicID
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
		if !parse.IPv4(pkt) || !parse.ICMPv4(pkt) {
			return
		}
	case header.IPv6Version:
		pkt.NetworkProtocolNumber = header.IPv6ProtocolNumber
		if proto, _, _, _, ok := parse.IPv6(pkt); !ok || proto != tcpip.TransportProtocolNumber(header.ICMPv6ProtocolNumber) || !parse.ICMPv6(pkt) {
			return
		}
	}
	s.prohibit(pkt)
}
