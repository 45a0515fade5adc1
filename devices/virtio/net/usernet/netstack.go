package usernet

import (
	"fmt"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"minivmm/internal/task"
)

const nicID = 1

// newStack creates the gateway: a host that has its own addresses, also accepts packets for every
// other address, and answers from the address that a packet was sent to.
func newStack(s *session) (*stack.Stack, error) {
	protocols := []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol}
	gateways := []netip.Prefix{netip.PrefixFrom(gateway, network.Bits())}
	routes := []tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nicID}}
	if s.hasIPv6() {
		protocols = append(protocols, ipv6.NewProtocol) // accepts no advertisements, detects no duplicate addresses
		gateways = append(gateways, netip.PrefixFrom(gateway6, network6.Bits()), netip.PrefixFrom(router6, 64))
		routes = append(routes, tcpip.Route{Destination: header.IPv6EmptySubnet, NIC: nicID})
	}
	st := stack.New(stack.Options{
		NetworkProtocols:   protocols,
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		Clock:              &clock{tcpip.NewStdClock(), time.Now(), s.guard},
	})
	errs := []tcpip.Error{
		st.CreateNIC(nicID, s.link),
		st.SetPromiscuousMode(nicID, true),
		st.SetSpoofing(nicID, true),
	}
	for _, option := range []tcpip.SettableTransportProtocolOption{
		new(tcpip.TCPSACKEnabled(true)),
		new(tcpip.TCPModerateReceiveBufferOption(false)),
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxSocketBuf, Max: maxSocketBuf},
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: maxSocketBuf, Max: maxSocketBuf},
		// Frames reach the guest in order, and none is lost. If a guest waits for its CPU, RACK's
		// timers (RFC 8985) would assume a loss. TIME-WAIT is unnecessary, because no old packet
		// arrives late, and in it the stack would ignore a guest that connects again from the same
		// port.
		new(tcpip.TCPRecovery(0)),
		new(tcpip.TCPTimeWaitTimeoutOption(0)),
	} {
		errs = append(errs, st.SetTransportProtocolOption(tcp.ProtocolNumber, option))
	}
	for _, g := range gateways {
		errs = append(errs, st.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol:          networkProtocol(g.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(g.Addr()), PrefixLen: g.Bits()},
		}, stack.AddressProperties{}))
	}
	if s.hasIPv6() {
		// Neighbors must see a router (RFC 4861 §4.4, R flag). The stack forwards nothing: it
		// treats every address as its own.
		_, err := st.SetNICForwarding(nicID, ipv6.ProtocolNumber, true)
		errs = append(errs, err)
	}
	for _, err := range errs {
		if err != nil {
			st.Destroy()
			return nil, fmt.Errorf("network stack: %s", err)
		}
	}
	st.SetRouteTable(routes)
	forwarder := tcp.NewForwarder(st, maxSocketBuf, 2*maxPending, s.acceptTCP)
	st.SetTransportProtocolHandler(tcp.ProtocolNumber, func(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
		s.syns.keep(id, pkt)
		return forwarder.HandlePacket(id, pkt)
	})
	st.SetTransportProtocolHandler(udp.ProtocolNumber, s.handleUDP)
	st.SetTransportProtocolHandler(icmp.ProtocolNumber4, s.handleEcho)
	st.SetTransportProtocolHandler(icmp.ProtocolNumber6, s.handleEcho)
	return st, nil
}

// address and addr convert between the stack's addresses and Go's.
func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func addr(a tcpip.Address) netip.Addr {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return ip
}

// clock is the stack's clock. Its timers run in goroutines that the session guards against panics.
// NowMonotonic is optimized because the stack reads the time a dozen times for each packet.
type clock struct {
	tcpip.Clock
	start time.Time
	guard func(func())
}

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime { return monotonic(time.Since(c.start)) }

// AfterFunc implements tcpip.Clock.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return c.Clock.AfterFunc(d, func() { c.guard(f) })
}

// gatewayMAC is a locally administered MAC address.
const gatewayMAC = tcpip.LinkAddress("\x52\x55\x0a\x00\x02\x02")

// maxGSO is the largest segment that the stack creates in one piece, including its headers.
const maxGSO = 65535

// link is the stack's end of the wire. Its packets go to the guest instead of a channel.
type link struct {
	*channel.Endpoint
	recv   *receiver
	failed func(error)
	acks   acks
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

// newLink returns a link on which the stack resolves neighbors and does not verify the checksums of
// incoming packets. gso means that the guest accepts large segments with partial checksums.
func newLink(mtu int, gso bool, recv *receiver, failed func(error)) *link {
	l := &link{Endpoint: channel.New(0, uint32(mtu), gatewayMAC), recv: recv, failed: failed}
	l.LinkEPCapabilities = stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
	if gso {
		l.SupportedGSOKind = stack.HostGSOSupported
	}
	return l
}

// MaxHeaderLength returns the size of the Ethernet header.
func (*link) MaxHeaderLength() uint16 { return ethBytes }

// GSOMaxSize returns the maximum size of one packet.
func (*link) GSOMaxSize() uint32 { return maxGSO }

// ARPHardwareType returns Ethernet.
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader writes the Ethernet header.
func (*link) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(ethBytes)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader removes the Ethernet header.
func (*link) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(ethBytes)
	return ok
}

// WritePackets sends packets to the guest. It catches panics: goroutines of the stack call it too.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	defer task.Catch(l.failed)
	list := pkts.AsSlice()
	var one [4]frame
	frames := one[:0]
	for _, p := range list {
		if !l.acks.keep(p) {
			frames = append(frames, frame{pkt: p})
		}
	}
	if len(frames) == 0 {
		return len(list), nil
	}
	n := l.recv.send(frames...)
	if n == 0 {
		return 0, &tcpip.ErrNoBufferSpace{}
	}
	return len(list) - (len(frames) - n), nil
}
