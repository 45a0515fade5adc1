package usernet

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// DHCPv6 (RFC 8415) without addresses: the guest configures its own (SLAAC).
const (
	dhcp6ServerPort = 547
	dhcp6ClientPort = 546

	dhcp6Reply       = 7
	dhcp6Information = 11 // INFORMATION-REQUEST

	dhcp6ClientID   = 1
	dhcp6ServerID   = 2
	dhcp6DNSServers = 23 // RFC 3646
	dhcp6DomainList = 24
	dhcp6OptHeader  = 4
)

// serverDUID is the gateway's DUID-LL (RFC 8415 §11.4) for Ethernet.
var serverDUID = append([]byte{0, 3, 0, 1}, gatewayMAC...)

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
func dhcp6Answer(m []byte, search []string) []byte {
	if len(m) < 4 || m[0] != dhcp6Information {
		return nil
	}
	out := append([]byte{dhcp6Reply}, m[1:4]...) // transaction-id
	for options := m[4:]; len(options) > 0; {
		if len(options) < dhcp6OptHeader {
			return nil
		}
		code, size := binary.BigEndian.Uint16(options), int(binary.BigEndian.Uint16(options[2:]))
		if size > len(options)-dhcp6OptHeader {
			return nil
		}
		value := options[dhcp6OptHeader:][:size]
		options = options[dhcp6OptHeader+size:]
		switch code {
		case dhcp6ClientID:
			if size > 130 { // §11.1
				return nil
			}
			out = appendOption6(out, dhcp6ClientID, value)
		case dhcp6ServerID:
			if !bytes.Equal(value, serverDUID) {
				return nil // the client chose another server
			}
		}
	}
	out = appendOption6(out, dhcp6ServerID, serverDUID)
	out = appendOption6(out, dhcp6DNSServers, gateway6.AsSlice())
	if len(search) > 0 {
		out = appendOption6(out, dhcp6DomainList, appendNames(nil, search))
	}
	return out
}

func appendOption6(b []byte, code uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}
