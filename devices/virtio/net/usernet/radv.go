package usernet

import (
	"context"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/rfc1035label"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	routerLifetime = 30 * time.Minute
	prefixLifetime = 24 * time.Hour
	advertiseEvery = 10 * time.Minute // MaxRtrAdvInterval
	lookEvery      = 30 * time.Second // maximum delay until a change on the host is advertised
)

// advertise sends router advertisements, periodically and after a change to the host's IPv6
// connectivity or search list.
func (s *session) advertise(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	now, last := time.Now(), string(s.advertisement())
	for {
		select {
		case at := <-tick.C:
			if a := string(s.advertisement()); a != last || at.Sub(now) >= advertiseEvery {
				now, last = at, a
				s.sendAdvertisement(header.EthernetAddressFromMulticastIPv6Address(address(allNodes)), allNodes)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// answerSolicitation answers the router solicitation in the given IPv6 packet, which was sent from
// the Ethernet address mac.
func (s *session) answerSolicitation(mac tcpip.LinkAddress, packet []byte) {
	to := addr(header.IPv6(packet).SourceAddress())
	if to.IsUnspecified() {
		to, mac = allNodes, header.EthernetAddressFromMulticastIPv6Address(address(allNodes))
	}
	s.sendAdvertisement(mac, to)
}

func (s *session) sendAdvertisement(mac tcpip.LinkAddress, to netip.Addr) {
	m := s.advertisement()
	setICMPChecksum(m, router6, to)
	s.recv.send(frame{raw: etherFrame(mac, ipPacket(header.ICMPv6ProtocolNumber, header.NDPHopLimit, router6, to, m))})
}

// advertisement returns the current router advertisement without its checksum.
func (s *session) advertisement() []byte {
	return advertisement(s.cfg.hostHasIPv6(), s.cfg.MTU, s.hostNames().search)
}

// advertisement returns a router advertisement (RFC 4861 §4.2): a prefix for SLAAC, the name server
// and the search list (RFC 8106), and, if the parameter out is true, a default route.
func advertisement(out bool, mtu int, search []string) []byte {
	lifetime := routerLifetime
	if !out {
		lifetime = 0 // not a default router, only a name server
	}
	b := []byte{
		byte(header.ICMPv6RouterAdvert), 0, 0, 0,
		64, 0x40, // hop limit; O flag: DHCPv6 provides other configuration, but no addresses
	}
	b = binary.BigEndian.AppendUint16(b, uint16(lifetime/time.Second))
	b = append(b, make([]byte, 8)...) // reachable time, retransmission timer: unspecified

	b = append(b, 1, 1) // source link-layer address
	b = append(b, gatewayMAC...)

	b = append(b, 5, 1, 0, 0) // MTU
	b = binary.BigEndian.AppendUint32(b, uint32(mtu))

	b = append(b, 3, 4, byte(network6.Bits()), 0xc0) // prefix information: L, A
	b = appendSeconds(appendSeconds(b, prefixLifetime), prefixLifetime)
	b = append(b, 0, 0, 0, 0)
	b = append(b, network6.Addr().AsSlice()...)

	b = append(b, 25, 3, 0, 0) // RDNSS
	b = appendSeconds(b, routerLifetime)
	b = append(b, gateway6.AsSlice()...)

	if len(search) > 0 {
		names := (&rfc1035label.Labels{Labels: search}).ToBytes()
		names = append(names, make([]byte, -len(names)&7)...)
		b = append(b, 31, byte(1+len(names)/8), 0, 0) // DNSSL
		b = appendSeconds(b, routerLifetime)
		b = append(b, names...)
	}
	return b
}

func appendSeconds(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(d/time.Second))
}
