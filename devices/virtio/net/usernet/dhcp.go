package usernet

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	dhcpServerPort = 67
	dhcpClientPort = 68

	// leaseTime is one day. Its value does not matter: no other guest ever gets the address.
	leaseTime = 24 * time.Hour
)

// serveDHCP answers a DHCP message in an IPv4 packet.
func (s *session) serveDHCP(mac tcpip.LinkAddress, packet []byte) {
	body := header.UDP(header.IPv4(packet).Payload())
	answer := dhcpAnswer(body.Payload(), s.hostNames(), s.cfg.MTU, s.cfg.guest)
	if answer == nil {
		return
	}
	// Broadcast while the client has no address at which it is reachable.
	from, to, toMAC := gateway, limitedBroadcast, header.EthernetBroadcastAddress
	if answer.ClientIPAddr.To4() != nil && !answer.ClientIPAddr.IsUnspecified() && answer.MessageType() != dhcpv4.MessageTypeNak {
		to, toMAC = s.cfg.guest, mac
	}
	s.recv.send(frame{raw: udpFrame(toMAC, netip.AddrPortFrom(from, dhcpServerPort), netip.AddrPortFrom(to, dhcpClientPort), answer.ToBytes())})
}

// dhcpAnswer returns the answer to a client's message (RFC 2131 §4.3), or nil to ignore it.
func dhcpAnswer(message []byte, host resolvConf, mtu int, guest netip.Addr) *dhcpv4.DHCPv4 {
	in, err := dhcpv4.FromBytes(message)
	if err != nil || in.OpCode != dhcpv4.OpcodeBootRequest || in.HWType != 1 || len(in.ClientHWAddr) != 6 {
		return nil
	}
	if id := in.ServerIdentifier(); id != nil && !id.Equal(gateway.AsSlice()) {
		return nil // the client chose another server
	}
	kind := dhcpv4.MessageTypeAck
	switch in.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		wanted := in.RequestedIPAddress()
		if wanted == nil || wanted.IsUnspecified() {
			wanted = in.ClientIPAddr
		}
		if !wanted.Equal(guest.AsSlice()) {
			kind = dhcpv4.MessageTypeNak
		}
	case dhcpv4.MessageTypeInform:
	default:
		return nil
	}
	out, err := dhcpv4.NewReplyFromRequest(in, dhcpv4.WithMessageType(kind), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway.AsSlice())))
	if err != nil {
		return nil
	}
	if kind == dhcpv4.MessageTypeNak {
		return out
	}
	out.ServerIPAddr = gateway.AsSlice()
	out.ClientIPAddr = in.ClientIPAddr
	if in.MessageType() != dhcpv4.MessageTypeInform {
		out.YourIPAddr = guest.AsSlice()
		out.UpdateOption(dhcpv4.OptIPAddressLeaseTime(leaseTime))
	}
	out.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(network.Bits(), 32)))
	out.UpdateOption(dhcpv4.OptBroadcastAddress(networkBroadcast.AsSlice()))
	out.UpdateOption(dhcpv4.OptRouter(gateway.AsSlice()))
	out.UpdateOption(dhcpv4.OptDNS(gateway.AsSlice()))
	if mtu != 1500 {
		out.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(mtu >> 8), byte(mtu)}))
	}
	if len(host.search) > 0 {
		out.UpdateOption(dhcpv4.OptDomainName(host.search[0]))
		out.UpdateOption(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: host.search}))
	}
	return out
}

// DHCPv6 (RFC 8415) without addresses: the guest configures its own address (SLAAC).
const (
	dhcp6ServerPort = 547
	dhcp6ClientPort = 546
)

// serverDUID is the gateway's DUID-LL (RFC 8415 §11.4) for Ethernet.
var serverDUID = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr(gatewayMAC)}

// serveDHCPv6 answers a DHCPv6 message in an IPv6 packet.
func (s *session) serveDHCPv6(mac tcpip.LinkAddress, packet []byte) {
	ip := header.IPv6(packet)
	to := addr(ip.SourceAddress())
	answer := dhcp6Answer(header.UDP(ip.Payload()).Payload(), s.hostNames().search)
	if answer == nil || !isLocal(to) {
		return
	}
	s.recv.send(frame{raw: udpFrame(mac, netip.AddrPortFrom(gatewayFor(to), dhcp6ServerPort), netip.AddrPortFrom(to, dhcp6ClientPort), answer)})
}

// dhcp6Answer returns the answer to an information request (RFC 8415 §18.3.6). It returns nil for
// any other message, such as a request for an address.
func dhcp6Answer(message []byte, search []string) []byte {
	in, err := dhcpv6.MessageFromBytes(message)
	if err != nil || in.MessageType != dhcpv6.MessageTypeInformationRequest {
		return nil
	}
	out := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: in.TransactionID}
	if id := in.Options.ClientID(); id != nil {
		if len(id.ToBytes()) > 130 { // §11.1
			return nil
		}
		out.AddOption(dhcpv6.OptClientID(id))
	}
	if id := in.Options.ServerID(); id != nil && !id.Equal(serverDUID) {
		return nil // the client chose another server
	}
	out.AddOption(dhcpv6.OptServerID(serverDUID))
	out.AddOption(dhcpv6.OptDNS(gateway6.AsSlice()))
	if len(search) > 0 {
		out.AddOption(dhcpv6.OptDomainSearchList(&rfc1035label.Labels{Labels: search}))
	}
	return out.ToBytes()
}
