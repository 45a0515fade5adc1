package usernet

import (
	"net"
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
	pass            // pass it to the stack
	lease           // pass it to the DHCP server
	solicit         // pass it to the router: it is a router solicitation
	inform          // pass it to the DHCPv6 server
	expired         // its TTL or hop limit ends at the gateway: answer with an ICMP error
)

// sent routes a frame from the guest to the other guests or to the gateway.
func (s *session) sent(f *inbound) {
	if s.capture != nil {
		s.capture.Write(f.offload.completed(), f.eth[:], f.view.AsSlice())
	}
	if s.lan != nil && s.toStations(f) {
		f.view.Release()
		return
	}
	s.fromGuest(f)
}

// fromGuest checks a frame and passes it on. The stack would answer for every address in the world,
// so fromGuest does not pass on the frames that the stack must not answer.
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

// payload creates a packet from v and takes ownership of v. The stack copies the whole piece of
// memory in which a header lies, so the headers of a large segment get separate memory.
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

// largePacket is the smallest size of a packet for which separating the headers is cheaper than
// copying the packet.
const largePacket = 4 << 10

// tcpHeaders returns the size of a TCP segment's headers. For any other packet it returns at least
// the packet's length.
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

// judge decides what to do with a packet from the guest.
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

// judgeARP passes the guest's replies, and its requests for the gateway's address. A request for
// any other address, such as the guest's probe for a duplicate of its own address, must stay
// unanswered, so judgeARP drops it.
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
	// Drop packets with a foreign source address and packets to multicast or broadcast addresses.
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

// The IPv6 part of the guest's network: a unique local prefix (RFC 4193), so that a guest prefers
// IPv4 for a name with addresses of both kinds (RFC 6724 §2.1, labels).
var (
	network6 = netip.MustParsePrefix("fd00:10:0:2::/64")
	gateway6 = netip.MustParseAddr("fd00:10:0:2::2")
	router6  = netip.MustParseAddr("fe80::2") // the gateway's link-local address
)

// minMTU6 is the minimum MTU for IPv6 (RFC 8200 §5).
const minMTU6 = header.IPv6MinimumMTU

var (
	allNodes       = netip.MustParseAddr("ff02::1")
	allDHCPServers = netip.MustParseAddr("ff02::1:2") // All_DHCP_Relay_Agents_and_Servers
)

// hasIPv6 reports whether the MTU of the guest's network allows IPv6.
func (s *session) hasIPv6() bool { return s.cfg.MTU >= minMTU6 }

// isGateway reports whether an address belongs to the gateway.
func isGateway(a netip.Addr) bool { return a == gateway || a == gateway6 || a == router6 }

// isLocal reports whether an address is on the guest's network.
func isLocal(a netip.Addr) bool {
	return network.Contains(a) || network6.Contains(a) || a.Is6() && a.IsLinkLocalUnicast()
}

// gatewayFor returns the gateway's address that is of the same kind as a, the address of a peer.
func gatewayFor(a netip.Addr) netip.Addr {
	switch {
	case a.Is4():
		return gateway
	case a.IsLinkLocalUnicast():
		return router6
	}
	return gateway6
}

// judgeIPv6 decides what to do with an IPv6 packet. The next header after the IPv6 header must be
// TCP, UDP, ICMPv6 or a fragment header: a packet in which options or a routing header come first
// is dropped.
func judgeIPv6(p []byte) verdict {
	if len(p) < header.IPv6MinimumSize {
		return drop
	}
	h := header.IPv6(p)
	if !h.IsValid(len(p)) {
		return drop
	}
	src, dst, body := addr(h.SourceAddress()), addr(h.DestinationAddress()), h.Payload()
	if isGateway(src) {
		return drop
	}
	next := tcpip.TransportProtocolNumber(h.NextHeader())
	if next == header.ICMPv6ProtocolNumber && len(body) >= header.ICMPv6HeaderSize {
		if v, is := judgeNeighbor(h.HopLimit(), header.ICMPv6(body)); is {
			return v
		}
	}
	if next == header.UDPProtocolNumber && len(body) >= header.UDPMinimumSize && (dst == allDHCPServers || isGateway(dst)) &&
		header.UDP(body).DestinationPort() == dhcp6ServerPort {
		return inform
	}
	// Drop packets from a foreign address, packets to multicast addresses, and packets with a
	// link-local source that would leave the link.
	if !network6.Contains(src) && !(src.IsLinkLocalUnicast() && isGateway(dst)) || dst.IsMulticast() {
		return drop
	}
	switch next {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
	case header.IPv6FragmentHeader:
	case header.ICMPv6ProtocolNumber:
		if len(body) < header.ICMPv6HeaderSize {
			return drop
		}
		switch header.ICMPv6(body).Type() {
		case header.ICMPv6DstUnreachable, header.ICMPv6PacketTooBig:
			return pass // the guest's answer to a packet from the gateway
		case header.ICMPv6EchoRequest:
		default:
			return drop
		}
	default:
		return drop
	}
	if h.HopLimit() <= 1 && !isGateway(dst) {
		return expired
	}
	return pass
}

// judgeNeighbor decides what to do with neighbor discovery messages (RFC 4861). Its second result
// is false if m is not such a message. As with ARP, the guest may ask only for the gateway's
// addresses, and may answer only for other addresses.
func judgeNeighbor(hops uint8, m header.ICMPv6) (v verdict, is bool) {
	whole := hops == header.NDPHopLimit && m.Code() == 0
	switch m.Type() {
	case header.ICMPv6RouterSolicit:
		if whole && len(m) >= header.ICMPv6HeaderSize+header.NDPRSMinimumSize {
			return solicit, true
		}
		return drop, true
	case header.ICMPv6NeighborSolicit, header.ICMPv6NeighborAdvert:
		const sizeBytes = header.ICMPv6NeighborSolicitMinimumSize // the size of both messages
		if !whole || len(m) < sizeBytes {
			return drop, true
		}
		target := netip.AddrFrom16([16]byte(m[sizeBytes-16 : sizeBytes]))
		if isGateway(target) == (m.Type() == header.ICMPv6NeighborSolicit) && isLocal(target) {
			return pass, true
		}
		return drop, true
	case header.ICMPv6RouterAdvert, header.ICMPv6RedirectMsg:
		return drop, true
	}
	return drop, false
}

// hostHasIPv6 reports whether the host has an IPv6 address with global scope.
func hostHasIPv6() bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().Is6() && !p.Addr().Is4In6() && p.Addr().IsGlobalUnicast() {
			return true
		}
	}
	return false
}
