package usernet

import (
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The IPv6 part of the guest's network: a unique local prefix (RFC 4193), so
// that a guest prefers IPv4 for a name that has both (RFC 6724 §2.1, labels).
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

// gatewayFor returns the gateway's address of the same kind as a peer's address.
func gatewayFor(a netip.Addr) netip.Addr {
	switch {
	case a.Is4():
		return gateway
	case a.IsLinkLocalUnicast():
		return router6
	}
	return gateway6
}

// judgeIPv6 decides about an IPv6 packet. The first header must be TCP, UDP, ICMPv6 or a fragment
// header: a packet with options or routing headers first is dropped.
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
	// No foreign source address, no multicast destination, and no link-local source beyond the
	// link.
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

// judgeNeighbor decides about neighbor discovery messages (RFC 4861); is reports whether m is one.
// As with ARP, the guest may only ask for the gateway's addresses, and only answer for other ones.
func judgeNeighbor(hops uint8, m header.ICMPv6) (v verdict, is bool) {
	whole := hops == header.NDPHopLimit && m.Code() == 0
	switch m.Type() {
	case header.ICMPv6RouterSolicit:
		if whole && len(m) >= header.ICMPv6HeaderSize+header.NDPRSMinimumSize {
			return solicit, true
		}
		return drop, true
	case header.ICMPv6NeighborSolicit, header.ICMPv6NeighborAdvert:
		const sizeBytes = header.ICMPv6NeighborSolicitMinimumSize // of both
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
