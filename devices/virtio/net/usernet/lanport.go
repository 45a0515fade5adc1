package usernet

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/internal/lan"
)

// Network is a named network on which the VMs of one user reach each other.
type Network struct {
	Name    string // of the network
	Dir     string // the directory shared by its stations, see [lan.Config]
	Station string // this VM's name on the network
	MAC     [6]byte
}

// The range of addresses that a named network assigns to VMs.
var (
	firstStation = guestAddr
	lastStation  = netip.MustParseAddr("10.0.2.254")
)

// joinLAN connects the guest to its named network.
func (b *Backend) joinLAN(n *Network) (*lan.Station, error) {
	return lan.Join(lan.Config{
		Dir: n.Dir, Name: n.Station, MAC: n.MAC, First: firstStation, Last: lastStation, Logf: b.cfg.Logf,
		Receive: func(from lan.Card, message []byte) {
			if s := b.live.Load(); s != nil {
				s.guard(func() { s.fromStation(from, message) })
			}
		},
	})
}

// domain returns the suffix of full names on the guest's named network. ".internal" is reserved for
// private use (ICANN, 2024).
func (s *session) domain() string { return "." + s.cfg.Network.Name + ".internal" }

// toStations sends a frame from the guest to the stations that it is addressed to. It returns false
// if the frame still has to go to the gateway, as frames to a group address do.
func (s *session) toStations(f *inbound) bool {
	to := lan.MAC(f.eth[:6])
	group := f.eth[0]&1 != 0
	if !group && !s.lan.Has(to) {
		return false
	}
	o := f.offload
	if packet, ok := cross(&o, f.eth[:], f.view.AsSlice(), s.lan.Card); ok {
		s.lan.Send(to, o[:], f.eth[:], packet)
	}
	return !group
}

// fromStation delivers a frame from another guest to this one.
func (s *session) fromStation(from lan.Card, message []byte) {
	if len(message) <= offloadBytes+ethBytes {
		return
	}
	o, f := offload(message[:offloadBytes]), message[offloadBytes:]
	if to := lan.MAC(f[:6]); f[0]&1 == 0 && to != s.lan.MAC {
		return
	}
	packet, ok := cross(&o, f[:ethBytes], f[ethBytes:], from)
	if !ok {
		return
	}
	f = f[:ethBytes+len(packet)]
	if s.link.SupportedGSOKind != stack.GSONotSupported {
		s.recv.send(frame{raw: f, offload: o, lent: true})
		return
	}
	for _, f := range segments(o, f) {
		s.recv.send(frame{raw: f, lent: true})
	}
}

// cross reports whether a frame may pass between guests. It returns the packet without trailing
// bytes, and makes the packet and its offload header valid. A frame must have the source addresses
// of the station that sent it, and must not impersonate the gateway. IPv6 does not cross: a guest
// uses IPv6 only with its gateway.
func cross(o *offload, eth, packet []byte, from lan.Card) ([]byte, bool) {
	if lan.MAC(eth[6:12]) != from.MAC {
		return nil, false
	}
	switch header.Ethernet(eth).Type() {
	case header.ARPProtocolNumber:
		*o = offload{}
		return crossARP(packet, from)
	case header.IPv4ProtocolNumber:
		return crossIPv4(o, packet, from)
	}
	return nil, false
}

func crossARP(p []byte, from lan.Card) ([]byte, bool) {
	h := header.ARP(p)
	if !h.IsValid() || lan.MAC(h.HardwareAddressSender()) != from.MAC {
		return nil, false
	}
	sender, _ := netip.AddrFromSlice(h.ProtocolAddressSender())
	target, _ := netip.AddrFromSlice(h.ProtocolAddressTarget())
	// A request without a sender address is a probe for a duplicate address.
	return p[:header.ARPSize], target != gateway && (sender == from.Addr || sender.IsUnspecified() && h.Op() == header.ARPRequest)
}

func crossIPv4(o *offload, p []byte, from lan.Card) ([]byte, bool) {
	h := header.IPv4(p)
	if len(p) < header.IPv4MinimumSize || !h.IsValid(len(p)) || int(h.TotalLength()) > len(p) {
		return nil, false
	}
	p = p[:h.TotalLength()]
	dst := addr(h.DestinationAddress())
	if addr(h.SourceAddress()) != from.Addr || dst == gateway ||
		!network.Contains(dst) && dst != limitedBroadcast && !dst.IsMulticast() {
		return nil, false
	}
	if h.FragmentOffset() == 0 {
		body := header.IPv4(p).Payload()
		switch h.TransportProtocol() {
		case header.UDPProtocolNumber: // only the gateway serves DHCP
			if u := header.UDP(body); len(body) < header.UDPMinimumSize || u.SourcePort() == dhcpServerPort || u.DestinationPort() == dhcpClientPort {
				return nil, false
			}
		case header.ICMPv4ProtocolNumber: // only the gateway sends redirects
			if i := header.ICMPv4(body); len(body) < header.ICMPv4MinimumSize || i.Type() == header.ICMPv4Redirect {
				return nil, false
			}
		}
	}
	return p, o.check(p)
}
