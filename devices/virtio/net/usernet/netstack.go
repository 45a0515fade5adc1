package usernet

import (
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const nicID = 1

// newStack makes the gateway: a host that has 10.0.2.2, and takes packets for
// every other address as well, in whose name it answers.
func newStack(s *session) (*stack.Stack, error) {
	st := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
		Clock:              clock{tcpip.NewStdClock(), s.guard},
	})
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(false)
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxSocketBuf, Max: maxSocketBuf}
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxSocketBuf, Max: maxSocketBuf}
	for _, err := range []tcpip.Error{
		st.SetTransportProtocolOption(tcp.ProtocolNumber, &sack),
		st.SetTransportProtocolOption(tcp.ProtocolNumber, &moderate),
		st.SetTransportProtocolOption(tcp.ProtocolNumber, &send),
		st.SetTransportProtocolOption(tcp.ProtocolNumber, &receive),
		tuneTCP(st),
		st.CreateNIC(nicID, s.link),
		st.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol:          ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(gateway), PrefixLen: network.Bits()},
		}, stack.AddressProperties{}),
		st.SetPromiscuousMode(nicID, true),
		st.SetSpoofing(nicID, true),
	} {
		if err != nil {
			st.Destroy()
			return nil, fmt.Errorf("network stack: %s", err)
		}
	}
	st.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}})
	st.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(st, maxSocketBuf, 2*maxPending, s.acceptTCP).HandlePacket)
	st.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(st, s.acceptUDP).HandlePacket)
	return st, nil
}

// address and addr translate between the stack's addresses and Go's.
func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func addr(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip
}
