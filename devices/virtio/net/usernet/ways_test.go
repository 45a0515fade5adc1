package usernet

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// metadata lists the services from which machines in clouds get their secrets, in every form of
// address.
const metadata = "169.254.169.254 169.254.170.2 100.100.100.200 100.96.0.96 168.63.129.16 192.0.0.192 " +
	"fd00:ec2::254 fd00:ec2::23 fd00:ec2:0:1::1 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 fd00:a9fe:a9fe::1 fd00:a9fe:a9fe:1::2 " +
	"::ffff:169.254.169.254 ::169.254.169.254 ::ffff:0:169.254.169.254 64:ff9b::169.254.169.254 64:ff9b:1::169.254.169.254 " +
	"2002:a9fe:a9fe::1 2001:0:c000:201::5601:5601 2001:db8::5efe:169.254.169.254 2001:db8::200:5efe:169.254.169.254 " +
	"::ffff:168.63.129.16 64:ff9b::100.100.100.200 2002:6460:60::1"

// ways are the kinds of packets that can leave the network. Each function returns the frames of one
// packet.
var ways = map[string]func(from, to netip.AddrPort) [][]byte{
	"TCP":  func(from, to netip.AddrPort) [][]byte { return [][]byte{synFrame(from, to)} },
	"UDP":  func(from, to netip.AddrPort) [][]byte { return [][]byte{guestUDPFrame(from, to, 64, "question")} },
	"echo": func(_, to netip.AddrPort) [][]byte { return [][]byte{echoRequest(to.Addr())} },
	"UDP to the second router": func(from, to netip.AddrPort) [][]byte {
		return [][]byte{guestUDPFrame(from, to, 2, "question")}
	},
	"UDP in fragments": func(from, to netip.AddrPort) [][]byte {
		return fragments(guestUDPFrame(from, to, 64, "question"))
	},
}

// fragments splits the packet of a frame in two.
func fragments(f []byte) [][]byte {
	const cut = 8 // bytes of the payload in the first
	p := f[ethBytes:]
	if header.IPVersion(p) == header.IPv4Version {
		piece := func(off int, more uint16, body []byte) []byte {
			h := header.IPv4(append(append([]byte(nil), p[:header.IPv4MinimumSize]...), body...))
			binary.BigEndian.PutUint16(h[2:], uint16(len(h)))
			binary.BigEndian.PutUint16(h[4:], 77)
			binary.BigEndian.PutUint16(h[6:], more|uint16(off/8))
			h.SetChecksum(0)
			h.SetChecksum(^h.CalculateChecksum())
			return fromTheGuest(h)
		}
		body := p[header.IPv4MinimumSize:]
		return [][]byte{piece(0, 0x2000, body[:cut]), piece(cut, 0, body[cut:])}
	}
	src, dst, body := addr(header.IPv6(p).SourceAddress()), addr(header.IPv6(p).DestinationAddress()), p[header.IPv6MinimumSize:]
	piece := func(off, more byte, body []byte) []byte {
		return fromTheGuest(ipPacket(header.IPv6FragmentHeader, 64, src, dst, append([]byte{17, 0, 0, off | more, 0, 0, 0, 77}, body...)))
	}
	return [][]byte{piece(0, 1, body[:cut]), piece(cut, 0, body[cut:])}
}

// TestEveryPacketIsSubjectToThePolicy sends every kind of packet to every kind of destination, and
// every kind of query for a name.
func TestEveryPacketIsSubjectToThePolicy(t *testing.T) {
	const public = "192.0.2.1 2001:db8::1 64:ff9b::192.0.2.1 2002:c000:201::1"
	// These must never be reachable.
	const others = "127.0.0.1 224.0.0.1 255.255.255.255 0.0.0.0 10.0.2.255 10.0.2.3 ::ffff:192.0.2.1 ff02::1 ::1 fe80::1 ::ffff:127.0.0.1 64:ff9b::127.0.0.1 fe80::a9fe:a9fe"
	everything := prefixes("0.0.0.0/0", "::/0")
	for name, tc := range map[string]struct {
		policy Policy
		open   string // addresses, of public and metadata
		names  string // of "listed.example" and "other.example"
	}{
		"none":                  {Policy{}, public, "listed.example other.example"},
		"isolated":              {Policy{Isolated: true}, "", ""},
		"all denied":            {Policy{Deny: everything}, "", ""},
		"all denied, in halves": {Policy{Deny: prefixes("::/1", "8000::/1", "0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/3")}, "", ""},
		"all denied, with DNS":  {Policy{Deny: everything, Names: AllNames}, "", "listed.example other.example"},
		"all of IPv4 denied":    {Policy{Deny: everything[:1]}, "2001:db8::1", "listed.example other.example"},
		"a network allowed":     {Policy{Allow: prefixes("192.0.2.0/24")}, "192.0.2.1", ""},
		"all allowed":           {Policy{Allow: everything}, public, "listed.example other.example"},
		"no DNS":                {Policy{Names: NoNames}, public, ""},
		"a name and no DNS":     {Policy{Allow: prefixes("listed.example"), Names: NoNames}, "", ""},
		"a name":                {Policy{Allow: prefixes("listed.example")}, "", "listed.example"},
		"a name, with DNS":      {Policy{Allow: prefixes("listed.example"), Names: AllNames}, "", "listed.example other.example"},
		"a name denied":         {Policy{Deny: prefixes("listed.example"), Names: AllNames}, public, "other.example"},
	} {
		t.Run(name, func(t *testing.T) {
			out, asked := make(chan netip.Addr, 1000), make(chan string, 1000)
			open := map[netip.Addr]bool{}
			for s := range strings.FieldsSeq(tc.open) {
				open[netip.MustParseAddr(s)] = true
			}
			cfg := answering(t, func(name string) []dnsmessage.Resource {
				name = strings.TrimSuffix(name, ".")
				if !slices.Contains(strings.Fields(tc.names), name) {
					t.Errorf("the host was asked for %s", name)
				}
				asked <- name
				return nil
			})
			cfg.Policy = tc.policy
			g := boot(t, cfg, all) // for queries over TCP
			cfg.outside = func(a netip.AddrPort) netip.AddrPort {
				if !open[a.Addr()] {
					t.Errorf("the guest reached %s", a)
				}
				out <- a.Addr()
				if a.Addr().Unmap().Is4() {
					return netip.AddrPortFrom(loopback, 9)
				}
				return netip.AddrPortFrom(loopback6, 9)
			}
			w := plug(t, cfg)
			port := uint16(10000)
			from := func(to netip.Addr) netip.AddrPort {
				port++
				if to.Is6() {
					return netip.AddrPortFrom(guestAddr6, port)
				}
				return netip.AddrPortFrom(guestAddr, port)
			}
			for s := range strings.FieldsSeq(public + " " + metadata + " " + others) {
				to := netip.MustParseAddr(s)
				for way, frames := range ways {
					for _, f := range frames(from(to), netip.AddrPortFrom(to, 9)) {
						w.send(t, f)
					}
					if open[to] {
						for wait := time.After(5 * time.Second); ; {
							select {
							case a := <-out:
								if a != to { // an echo calls outside twice
									continue
								}
							case <-wait:
								t.Errorf("%s to %s does not leave the host", way, to)
							}
							break
						}
						continue
					}
					w.nextWithin(t, delay) // the refusal, if there is one
				}
			}
			for _, proto := range []tcpip.TransportProtocolNumber{2, 4, 41, 47, 50, 132, 136} {
				w.send(t, fromTheGuest(ipPacket(proto, 64, guestAddr, outside, make([]byte, 40))))
				w.send(t, fromTheGuest(ipPacket(proto, 64, guestAddr6, outside6, make([]byte, 40))))
			}
			for _, name := range []string{"listed.example", "other.example"} {
				want := slices.Contains(strings.Fields(tc.names), name)
				q, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 77}, Questions: []dnsmessage.Question{
					{Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET},
				}}).Pack()
				if err != nil {
					t.Fatal(err)
				}
				for _, at := range []netip.Addr{gateway, gateway6, router6} {
					w.send(t, guestUDPFrame(from(at), netip.AddrPortFrom(at, dnsPort), 64, string(q)))
				}
				if m := g.lookup(t, "tcp", name+"."); (m.RCode == dnsmessage.RCodeSuccess) != want {
					t.Errorf("%s over TCP: %v, want success: %v", name, m.RCode, want)
				}
				for range 4 {
					if want {
						if got := receiveFrom(t, asked); got != name {
							t.Errorf("the host is asked for %s, want %s", got, name)
						}
					}
				}
			}
			time.Sleep(5 * delay) // catch packets that wrongly leave late
		})
	}
}
