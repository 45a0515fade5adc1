package usernet

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// etherFrame returns a frame from the gateway that contains an IP packet.
func etherFrame(to tcpip.LinkAddress, packet []byte) []byte {
	proto := header.IPv4ProtocolNumber
	if header.IPVersion(packet) == header.IPv6Version {
		proto = header.IPv6ProtocolNumber
	}
	f := append(make(header.Ethernet, ethBytes), packet...)
	f.Encode(&header.EthernetFields{SrcAddr: gatewayMAC, DstAddr: to, Type: proto})
	return f
}

// ipPacket returns an IPv4 or IPv6 packet, depending on the family of its addresses.
func ipPacket(proto tcpip.TransportProtocolNumber, ttl uint8, src, dst netip.Addr, payload []byte) []byte {
	if src.Is4() {
		p := append(make(header.IPv4, header.IPv4MinimumSize), payload...)
		p.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(p)), TTL: ttl, Protocol: uint8(proto), SrcAddr: address(src), DstAddr: address(dst),
		})
		p.SetChecksum(^p.CalculateChecksum())
		return p
	}
	p := append(make(header.IPv6, header.IPv6MinimumSize), payload...)
	p.Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(payload)), HopLimit: ttl, TransportProtocol: proto, SrcAddr: address(src), DstAddr: address(dst),
	})
	return p
}

// udpDatagram returns a UDP header with its checksum, followed by the payload.
func udpDatagram(src, dst netip.AddrPort, payload []byte) []byte {
	u := append(make(header.UDP, header.UDPMinimumSize), payload...)
	u.Encode(&header.UDPFields{SrcPort: src.Port(), DstPort: dst.Port(), Length: uint16(len(u))})
	from, to := address(src.Addr()), address(dst.Addr())
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, from, to, uint16(len(u)))
	if sum = ^u.CalculateChecksum(checksum.Checksum(payload, sum)); sum == 0 {
		sum = 0xffff
	}
	u.SetChecksum(sum)
	return u
}

// udpFrame returns a frame from the gateway that contains one datagram.
func udpFrame(to tcpip.LinkAddress, src, dst netip.AddrPort, payload []byte) []byte {
	return etherFrame(to, ipPacket(header.UDPProtocolNumber, 64, src.Addr(), dst.Addr(), udpDatagram(src, dst, payload)))
}

// setICMPChecksum sets the checksum of the ICMP message m from src to dst.
func setICMPChecksum(m []byte, src, dst netip.Addr) {
	m[2], m[3] = 0, 0
	var pseudo uint16
	if src.Is6() {
		pseudo = header.PseudoHeaderChecksum(header.ICMPv6ProtocolNumber, address(src), address(dst), uint16(len(m)))
	}
	binary.BigEndian.PutUint16(m[2:], ^checksum.Checksum(m, pseudo))
}

// sendIP sends the guest an IP packet with the given payload, in fragments if the payload is too
// long for one packet. The stack resolves the guest's MAC address.
func (s *session) sendIP(proto tcpip.TransportProtocolNumber, src, dst netip.Addr, payload []byte) {
	r, err := s.stack.FindRoute(nicID, address(src), address(dst), networkProtocol(dst), false)
	if err != nil {
		return
	}
	defer r.Release()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(r.MaxHeaderLength()),
		Payload:            buffer.MakeWithData(payload),
	})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = proto
	r.WritePacket(stack.NetworkHeaderParams{Protocol: proto, TTL: 64, TOS: stack.DefaultTOS}, pkt)
}

// networkProtocol returns the protocol number of IPv4 or IPv6, depending on the address.
func networkProtocol(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}
