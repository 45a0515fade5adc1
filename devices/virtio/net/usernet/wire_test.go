package usernet

import (
	"bytes"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// wire is a guest that writes its own frames.
type wire struct {
	*virtiotest.Driver
	out  guestmem.GPA // floodFrames buffers of floodSlot bytes each, for frames being sent
	sent []byte
	bufs map[uint16]receiveBuffer // buffers that the device owns
}

type receiveBuffer struct {
	gpa guestmem.GPA
	b   []byte
}

// plug starts a NIC with a wire to it. The gateway knows the guest's MAC address.
func plug(t testing.TB, cfg Config) *wire {
	t.Helper()
	w := &wire{Driver: virtiotest.NewDriver(t, device(t, cfg)), bufs: map[uint16]receiveBuffer{}}
	w.Start(all)
	w.out, w.sent = w.Buffer(floodFrames * floodSlot)
	for range 100 {
		gpa, b := w.Buffer(2048)
		w.give(receiveBuffer{gpa, b})
	}
	w.send(t, arpFrame([4]byte{10, 0, 2, 2}))
	w.next(t)
	w.send(t, solicitation(guestAddr6, gateway6))
	w.next(t)
	return w
}

func (w *wire) give(b receiveBuffer) {
	w.bufs[w.Rings[0].Add(queuetest.Desc{GPA: b.gpa, Len: uint32(len(b.b)), Flags: queuetest.Write})] = b
	w.Rings[0].Kick()
}

// send polls for the used buffer before it waits, like a guest with more to send: the interrupt for
// a small frame is delayed.
func (w *wire) send(t testing.TB, frame []byte) {
	t.Helper()
	n := copy(w.sent[hdrBytes:], frame)
	w.Rings[1].Add(queuetest.Desc{GPA: w.out, Len: uint32(hdrBytes + n)})
	w.Rings[1].Kick()
	for start := time.Now(); time.Since(start) < delay; runtime.Gosched() {
		if _, ok := w.Rings[1].Used(); ok {
			return
		}
	}
	if _, err := w.Rings[1].WaitUsed(testenv.Patience); err != nil {
		t.Fatal(err)
	}
}

// A flood sends this many frames at a time, each in a buffer of this size.
const (
	floodFrames = 16
	floodSlot   = 2048
)

// flood sends n frames, many at a time.
func (w *wire) flood(t testing.TB, n int, frame func(i int) []byte) {
	t.Helper()
	for first := 0; first < n; first += floodFrames {
		batch := min(n-first, floodFrames)
		for i := range batch {
			at := i * floodSlot
			size := copy(w.sent[at+hdrBytes:at+floodSlot], frame(first+i))
			w.Rings[1].Add(queuetest.Desc{GPA: w.out + guestmem.GPA(at), Len: uint32(hdrBytes + size)})
		}
		w.Rings[1].Kick()
		for range batch {
			if _, err := w.Rings[1].WaitUsed(testenv.Patience); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// next returns the next frame without its header.
func (w *wire) next(t testing.TB) []byte {
	t.Helper()
	f, ok := w.nextWithin(t, testenv.Patience)
	if !ok {
		t.Fatalf("no frame in %v", testenv.Patience)
	}
	return f
}

// nextWithin is like next with a timeout. It answers the gateway's ARP requests for the guest.
func (w *wire) nextWithin(t testing.TB, d time.Duration) ([]byte, bool) {
	u, err := w.Rings[0].WaitUsed(d)
	if err != nil {
		return nil, false
	}
	b := w.bufs[uint16(u.ID)]
	delete(w.bufs, uint16(u.ID))
	frame := bytes.Clone(b.b[hdrBytes:u.Len])
	w.give(b)
	if asked := header.ARP(frame[ethBytes:]); header.Ethernet(frame).Type() == header.ARPProtocolNumber &&
		asked.Op() == header.ARPRequest && tcpip.AddrFromSlice(asked.ProtocolAddressTarget()) == address(guestAddr) {
		w.send(t, arpReply(frame))
	}
	return frame, true
}

// parseIP returns the source, protocol and payload of an IP packet.
func parseIP(t testing.TB, p []byte) (src netip.Addr, proto uint8, body []byte) {
	t.Helper()
	if header.IPVersion(p) == header.IPv4Version {
		h := header.IPv4(p)
		if !h.IsValid(len(p)) || !h.IsChecksumValid() {
			t.Fatalf("% x", p)
		}
		return addr(h.SourceAddress()), h.Protocol(), h.Payload()
	}
	h := header.IPv6(p)
	if !h.IsValid(len(p)) {
		t.Fatalf("% x", p)
	}
	if h.NextHeader() == uint8(header.ICMPv6ProtocolNumber) && header.ICMPv6(h.Payload()).Checksum() != header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: h.Payload(), Src: h.SourceAddress(), Dst: h.DestinationAddress(),
	}) {
		t.Fatalf("checksum of % x", p)
	}
	return addr(h.SourceAddress()), h.NextHeader(), h.Payload()
}

// ipPacket returns the next packet, skipping ARP and neighbor solicitations.
func (w *wire) ipPacket(t testing.TB) (src netip.Addr, proto uint8, body []byte) {
	t.Helper()
	for {
		f := w.next(t)
		if header.Ethernet(f).Type() == header.ARPProtocolNumber {
			continue
		}
		if src, proto, body = parseIP(t, f[ethBytes:]); proto == uint8(header.ICMPv6ProtocolNumber) && body[0] == uint8(header.ICMPv6NeighborSolicit) {
			continue
		}
		return src, proto, body
	}
}

// fromTheGuest returns a frame from the guest with an IP packet.
func fromTheGuest(packet []byte) []byte {
	f := etherFrame(gatewayMAC, packet)
	copy(f[6:], guestMAC)
	return f
}

func guestUDPFrame(src, dst netip.AddrPort, hops uint8, payload string) []byte {
	return fromTheGuest(ipPacket(header.UDPProtocolNumber, hops, src.Addr(), dst.Addr(), udpDatagram(src, dst, []byte(payload))))
}

// solicitation returns a neighbor solicitation.
func solicitation(src, target netip.Addr) []byte {
	m := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
	if !src.IsUnspecified() {
		m = append(append(m, 1, 1), guestMAC...)
	}
	return icmpFrame(src, addr(header.SolicitedNodeAddr(address(target))), 255, m)
}

func TestNeighborsOfIPv6(t *testing.T) {
	w := plug(t, Config{})
	any6 := netip.IPv6Unspecified()
	w.send(t, solicitation(any6, guestAddr6))                                  // a probe for a duplicate
	w.send(t, solicitation(guestAddr6, netip.MustParseAddr("fd00:10:0:2::3"))) // an unused address
	w.send(t, solicitation(guestAddr6, outside6))                              // not on the link
	w.send(t, solicitation(gateway6, gateway6))                                // spoofs the gateway
	short := solicitation(guestAddr6, gateway6)
	short[ethBytes+7] = 254 // from beyond a router
	w.send(t, short)
	for _, target := range []netip.Addr{gateway6, router6} {
		w.send(t, solicitation(guestAddr6, target))
		src, _, m := w.ipPacket(t)
		want := append([]byte{136, 0, m[2], m[3], 0xe0, 0, 0, 0}, target.AsSlice()...) // router, solicited, override
		want = append(append(want, 2, 1), gatewayMAC...)
		if src != target || !bytes.Equal(m, want) {
			t.Errorf("%v sent % x", src, m)
		}
	}
}

func TestRouterSolicitationsAreAnswered(t *testing.T) {
	for _, src := range []string{"::", "fe80::15"} {
		w := plug(t, Config{MTU: 9000, hostHasIPv6: func() bool { return true }, resolvConf: resolvConfOf(t, "search corp.example example\n")})
		w.send(t, icmpFrame(netip.MustParseAddr(src), netip.MustParseAddr("ff02::2"), 255, []byte{133, 0, 0, 0, 0, 0, 0, 0}))
		from, _, m := w.ipPacket(t)
		ra := header.NDPRouterAdvert(header.ICMPv6(m).MessageBody())
		if from != router6 || m[0] != 134 || ra.RouterLifetime() != routerLifetime || !ra.OtherConfFlag() || ra.ManagedAddrConfFlag() {
			t.Fatalf("%v: % x", from, m)
		}
		it, err := ra.Options().Iter(true)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[uint8]bool{}
		for {
			o, done, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			if done {
				break
			}
			switch o := o.(type) {
			case header.NDPPrefixInformation:
				p := o.Subnet()
				seen[3] = addr(p.ID()) == network6.Addr() && p.Prefix() == 64 && o.OnLinkFlag() && o.AutonomousAddressConfigurationFlag() && o.ValidLifetime() == prefixLifetime
			case header.NDPRecursiveDNSServer:
				a, err := o.Addresses()
				seen[25] = err == nil && len(a) == 1 && addr(a[0]) == gateway6
			case header.NDPDNSSearchList:
				names, err := o.DomainNames()
				seen[31] = err == nil && len(names) == 2 && names[0] == "corp.example" && names[1] == "example"
			case header.NDPSourceLinkLayerAddressOption:
				seen[1] = o.EthernetAddress() == gatewayMAC
			}
		}
		for _, o := range []uint8{1, 3, 25, 31} {
			if !seen[o] {
				t.Errorf("option %d is missing or wrong in % x", o, m)
			}
		}
		if !bytes.Contains(m, []byte{5, 1, 0, 0, 0, 0, 0x23, 0x28}) {
			t.Errorf("no MTU in % x", m)
		}
	}
}

// On a host without IPv6, the guest gets an IPv6 address but no default router.
func TestWithoutIPv6OnTheHostThereIsNoDefaultRouter(t *testing.T) {
	m := advertisement(false, 1500, nil)
	if ra := header.NDPRouterAdvert(header.ICMPv6(m).MessageBody()); ra.RouterLifetime() != 0 || len(m)%8 != 0 {
		t.Errorf("% x", m)
	}
}

func TestDHCPv6InformationRequests(t *testing.T) {
	w := plug(t, Config{resolvConf: resolvConfOf(t, "search a.example\n")})
	guest := netip.MustParseAddr("fe80::15")
	ask := []byte{11, 1, 2, 3, 0, 1, 0, 4, 'd', 'u', 'i', 'd', 0, 6, 0, 2, 0, 23}
	w.send(t, guestUDPFrame(netip.AddrPortFrom(guest, 546), netip.AddrPortFrom(allDHCPServers, 547), 1, string(ask)))
	src, _, m := w.ipPacket(t)
	want := append([]byte{7, 1, 2, 3, 0, 1, 0, 4, 'd', 'u', 'i', 'd', 0, 2, 0, 10}, serverDUID.ToBytes()...)
	want = append(append(want, 0, 23, 0, 16), gateway6.AsSlice()...)
	want = append(want, "\x00\x18\x00\x0b\x01a\x07example\x00"...)
	if src != router6 || !bytes.Equal(header.UDP(m).Payload(), want) {
		t.Errorf("%v: % x", src, m)
	}
	for name, m := range map[string][]byte{
		"solicit":        {1, 1, 2, 3},
		"short":          {11, 1, 2},
		"long option":    {11, 1, 2, 3, 0, 1, 0, 4, 'd'},
		"half an option": {11, 1, 2, 3, 0, 1, 0},
		"another server": {11, 1, 2, 3, 0, 2, 0, 1, 'x'},
	} {
		if a := dhcp6Answer(m, nil); a != nil {
			t.Errorf("%s: % x", name, a)
		}
	}
}

func TestEchoesAreAnsweredByTheirDestination(t *testing.T) {
	w := plug(t, Config{})
	to := []netip.Addr{gateway, gateway6}
	if pingable(t) {
		to = append(to, outside, outside6)
	} else {
		t.Log("this user may not create ping sockets: only the gateway is tested")
	}
	for _, a := range to {
		w.send(t, echoRequest(a))
		src, _, m := w.ipPacket(t)
		if src != a || m[0] != 0 && m[0] != 129 || !bytes.Equal(m[4:], []byte{0, 7, 0, 1, 'h', 'i'}) {
			t.Errorf("%v: %v sent % x", a, src, m)
		}
	}
}

// pingable reports whether this user may create ping sockets.
func pingable(t testing.TB) bool {
	f, _, err := pingSocket(loopback)
	if err != nil {
		return false
	}
	f.Close()
	return true
}

// The gateway drops a packet whose TTL or hop limit ends there, and the guest gets the error from
// the gateway.
func TestTheGatewayIsTheFirstHop(t *testing.T) {
	w := plug(t, Config{outside: func(a netip.AddrPort) netip.AddrPort { t.Errorf("%v was asked for", a); return a }})
	for _, f := range [][]byte{
		guestUDPFrame(netip.AddrPortFrom(guestAddr, 99), netip.AddrPortFrom(outside, 33434), 1, "probe"),
		guestUDPFrame(netip.AddrPortFrom(guestAddr6, 99), netip.AddrPortFrom(outside6, 33434), 1, "probe"),
		icmpFrame(guestAddr, outside, 1, []byte{8, 0, 0, 0, 0, 7, 0, 1}),
		icmpFrame(guestAddr6, outside6, 1, []byte{128, 0, 0, 0, 0, 7, 0, 1}),
		fromTheGuest(ipPacket(header.TCPProtocolNumber, 1, guestAddr, outside, tcpHeader(5, 80, header.TCPFlagSyn))),
	} {
		w.send(t, f)
		src, proto, m := w.ipPacket(t)
		if src != gateway && src != gateway6 || proto != 1 && proto != 58 || m[0] != 11 && m[0] != 3 || m[1] != 0 || !bytes.Equal(m[8:], f[ethBytes:]) {
			t.Errorf("%v sent % x", src, m)
		}
	}
}

// If a peer refuses datagrams, or the host has no route, the guest gets an error that quotes the
// packet.
func TestErrorsOfTheHostReachTheGuest(t *testing.T) {
	w := plug(t, Config{})
	closed := map[netip.Addr]uint16{}
	for _, a := range []netip.Addr{loopback, loopback6} {
		closed[a] = freePortAt(t, a).Port()
	}
	loopbackNAT64 := netip.MustParseAddr("64:ff9b::7f00:1")
	src4, src6 := netip.AddrPortFrom(guestAddr, 99), netip.AddrPortFrom(guestAddr6, 99)
	for name, c := range map[string]struct {
		frame     []byte
		from      netip.Addr
		typ, code byte
	}{
		"UDP refused":         {guestUDPFrame(src4, netip.AddrPortFrom(outside, closed[loopback]), 64, "x"), outside, 3, 3},
		"UDP refused, IPv6":   {guestUDPFrame(src6, netip.AddrPortFrom(outside6, closed[loopback6]), 64, "x"), outside6, 1, 4},
		"no route":            {fromTheGuest(ipPacket(header.TCPProtocolNumber, 64, guestAddr, nowhere, tcpHeader(5, 80, header.TCPFlagSyn))), gateway, 3, 0},
		"no route, IPv6":      {fromTheGuest(ipPacket(header.TCPProtocolNumber, 64, guestAddr6, nowhere6, tcpHeader(5, 80, header.TCPFlagSyn))), gateway6, 1, 0},
		"forbidden UDP, IPv6": {guestUDPFrame(src6, netip.AddrPortFrom(loopbackNAT64, 9), 64, "x"), gateway6, 1, prohibited6},
	} {
		w.send(t, c.frame)
		src, _, m := w.ipPacket(t)
		quoted, p := m[8:], c.frame[ethBytes:]
		ports := len(p) - len(header.IPv4(p).Payload())
		if src.Is6() {
			ports = header.IPv6MinimumSize
		}
		if src != c.from || m[0] != c.typ || m[1] != c.code || !bytes.Equal(quoted[ports:ports+6], p[ports:ports+6]) ||
			!bytes.Equal(quoted[ports-8:ports], p[ports-8:ports]) {
			t.Errorf("%s: %v sent % x about % x", name, src, m, p)
		}
	}
}

func TestTCPWithoutAListenerIsResetOverIPv6(t *testing.T) {
	g := boot(t, Config{}, all)
	closed := theirs(freePortAt(t, loopback6).String())
	if _, err := g.dial(t, closed); !isRefused(err) {
		t.Error(err)
	}
}
