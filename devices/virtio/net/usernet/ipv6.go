package usernet

import (
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The IPv6 half of the guest's network: a unique local prefix (RFC 4193), so
// that a guest prefers IPv4 to a name that has both (RFC 6724 §2.1, labels).
var (
	network6 = netip.MustParsePrefix("fd00:10:0:2::/64")
	gateway6 = netip.MustParseAddr("fd00:10:0:2::2")
	router6  = netip.MustParseAddr("fe80::2") // the gateway as its neighbours see it
)

// minMTU6 is what a link needs for IPv6 (RFC 8200 §5).
const minMTU6 = header.IPv6MinimumMTU

var (
	allNodes       = netip.MustParseAddr("ff02::1")
	allDHCPServers = netip.MustParseAddr("ff02::1:2") // All_DHCP_Relay_Agents_and_Servers
)

// hasIPv6 says whether the guest's network can be IPv6 too.
func (s *session) hasIPv6() bool { return s.cfg.MTU >= minMTU6 }

// isGateway says whether an address is one of ours.
func isGateway(a netip.Addr) bool { return a == gateway || a == gateway6 || a == router6 }

// isLocal says whether an address is on the guest's network.
func isLocal(a netip.Addr) bool {
	return network.Contains(a) || network6.Contains(a) || a.Is6() && a.IsLinkLocalUnicast()
}

// gatewayFor is the gateway's address for a peer's.
func gatewayFor(a netip.Addr) netip.Addr {
	switch {
	case a.Is4():
		return gateway
	case a.IsLinkLocalUnicast():
		return router6
	}
	return gateway6
}

// judgeIPv6 looks at an IPv6 packet. The first header must be of TCP, UDP, ICMPv6
// or a fragment: what hides behind options and routing headers is dropped.
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
		if v, is := judgeNeighbour(h.HopLimit(), header.ICMPv6(body)); is {
			return v
		}
	}
	if next == header.UDPProtocolNumber && len(body) >= header.UDPMinimumSize && (dst == allDHCPServers || isGateway(dst)) &&
		header.UDP(body).DestinationPort() == dhcp6ServerPort {
		return inform
	}
	// No packet in another's name, none to many, and none of a link's beyond it.
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
			return pass // the guest's answer to a packet of ours
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

// judgeNeighbour looks at messages of neighbour discovery (RFC 4861). As with ARP,
// only the gateway is asked for, and only others answer.
func judgeNeighbour(hops uint8, m header.ICMPv6) (v verdict, is bool) {
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

// hostHasIPv6 says whether the host has an address that leads anywhere.
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
