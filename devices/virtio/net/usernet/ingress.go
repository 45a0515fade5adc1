package usernet

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// verdict is the decision about a frame from the guest.
type verdict int

const (
	drop    verdict = iota
	pass            // to the stack
	lease           // to the DHCP server
	solicit         // to the router: a router solicitation
	inform          // to the DHCPv6 server
	expired         // its TTL or hop limit ends at the gateway: answer with an ICMP error
)

// sent routes a frame from the guest to the other guests or to the gateway.
func (s *session) sent(f *inbound) {
	if s.capture != nil {
		s.capture.sent(f)
	}
	if s.lan != nil && s.toStations(f) {
		f.view.Release()
		return
	}
	s.fromGuest(f)
}

// fromGuest checks a frame and passes it on. The stack would answer for every address in the world,
// so frames that it must not answer do not reach it.
func (s *session) fromGuest(f *inbound) {
	eth := header.Ethernet(f.eth[:])
	if len(eth.SourceAddress()) != header.EthernetAddressSize || header.IsMulticastEthernetAddress(eth.SourceAddress()) {
		f.view.Release()
		return
	}
	switch packet := f.view.AsSlice(); judge(eth.Type(), packet) {
	case pass:
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: payload(eth.Type(), f.view)})
		pkt.PktType = packetType(eth.DestinationAddress())
		s.link.InjectInbound(eth.Type(), pkt)
		pkt.DecRef()
		return
	case lease:
		s.serveDHCP(eth.SourceAddress(), packet)
	case solicit:
		s.answerSolicitation(eth.SourceAddress(), packet)
	case inform:
		s.serveDHCPv6(eth.SourceAddress(), packet)
	case expired:
		s.expire(packet)
	}
	f.view.Release()
}

// payload creates a packet from v and takes ownership of v. The stack copies the whole memory that
// contains a header, so the headers of a large segment get separate memory.
func payload(proto tcpip.NetworkProtocolNumber, v *buffer.View) buffer.Buffer {
	p := v.AsSlice()
	n := tcpHeaders(proto, p)
	if len(p) < largePacket || n >= len(p) {
		return buffer.MakeWithView(v)
	}
	b := buffer.MakeWithView(buffer.NewViewWithData(append([]byte(nil), p[:n]...)))
	v.TrimFront(n)
	_ = b.Append(v)
	return b
}

// largePacket is the size from which separating the headers is cheaper than copying the packet.
const largePacket = 4 << 10

// tcpHeaders returns the size of the headers of a TCP segment. For any other packet the result is
// at least the packet's length.
func tcpHeaders(proto tcpip.NetworkProtocolNumber, p []byte) int {
	const tcpProto, dataOff = uint8(header.TCPProtocolNumber), 12
	n := len(p)
	switch {
	case proto == header.IPv4ProtocolNumber && len(p) >= header.IPv4MinimumSize && p[9] == tcpProto:
		n = int(p[0]&0xf) * 4
	case proto == header.IPv6ProtocolNumber && len(p) >= header.IPv6MinimumSize && p[6] == tcpProto:
		n = header.IPv6MinimumSize
	}
	if n+dataOff >= len(p) {
		return len(p)
	}
	return n + int(p[n+dataOff]>>4)*4
}

func packetType(dst tcpip.LinkAddress) tcpip.PacketType {
	switch {
	case dst == header.EthernetBroadcastAddress:
		return tcpip.PacketBroadcast
	case header.IsMulticastEthernetAddress(dst):
		return tcpip.PacketMulticast
	case dst == gatewayMAC:
		return tcpip.PacketHost
	}
	return tcpip.PacketOtherHost
}

// judge decides about the packet of a frame.
func judge(proto tcpip.NetworkProtocolNumber, p []byte) verdict {
	switch proto {
	case header.ARPProtocolNumber:
		return judgeARP(p)
	case header.IPv4ProtocolNumber:
		return judgeIPv4(p)
	case header.IPv6ProtocolNumber:
		return judgeIPv6(p)
	}
	return drop
}

// judgeARP passes requests for the gateway's address, and replies. It drops a request for any other
// address, such as the guest's probe for a duplicate of its own, so that it stays unanswered.
func judgeARP(p []byte) verdict {
	h := header.ARP(p)
	if !h.IsValid() {
		return drop
	}
	sender, _ := netip.AddrFromSlice(h.ProtocolAddressSender())
	target, _ := netip.AddrFromSlice(h.ProtocolAddressTarget())
	switch {
	case sender == gateway:
		return drop
	case h.Op() == header.ARPReply && network.Contains(sender), h.Op() == header.ARPRequest && target == gateway:
		return pass
	}
	return drop
}

func judgeIPv4(p []byte) verdict {
	h := header.IPv4(p)
	if len(p) < header.IPv4MinimumSize || !h.IsValid(len(p)) {
		return drop
	}
	src, dst := addr(h.SourceAddress()), addr(h.DestinationAddress())
	body, whole := h.Payload(), !h.More() && h.FragmentOffset() == 0
	if h.Protocol() == uint8(header.UDPProtocolNumber) && whole && len(body) >= header.UDPMinimumSize &&
		header.UDP(body).DestinationPort() == dhcpServerPort && (dst == gateway || dst == limitedBroadcast) {
		return lease
	}
	// No packet with a foreign source address, and none to multicast or broadcast addresses.
	if !network.Contains(src) || src == gateway || dst.IsMulticast() || dst == limitedBroadcast || dst == networkBroadcast {
		return drop
	}
	if h.Protocol() == uint8(header.ICMPv4ProtocolNumber) && h.FragmentOffset() == 0 {
		if len(body) < header.ICMPv4MinimumSize {
			return drop
		}
		switch header.ICMPv4(body).Type() {
		case header.ICMPv4DstUnreachable:
			return pass // the guest's answer to a datagram from the gateway
		case header.ICMPv4Echo:
		default:
			return drop
		}
	}
	if h.TTL() <= 1 && dst != gateway {
		if h.FragmentOffset() > 0 {
			return drop // the error is sent for the first fragment
		}
		return expired
	}
	return pass
}

var (
	limitedBroadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	networkBroadcast = netip.MustParseAddr("10.0.2.255")
)
