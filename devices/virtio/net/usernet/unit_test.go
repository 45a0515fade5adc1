package usernet

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

func TestPublic(t *testing.T) {
	for a, want := range map[string]bool{
		"1.1.1.1": true, "10.0.0.1": true, "192.168.1.1": true, "2001:db8::1": true, "fd00::1": true,
		"2002:808:808::1": true, "64:ff9b::808:808": true, "::ffff:1.1.1.1": true,
		"127.0.0.1": false, "127.255.0.9": false, "::1": false, "0.0.0.0": false, "0.1.2.3": false, "::": false,
		"169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "224.0.0.251": false, "ff02::1": false,
		"255.255.255.255": false, "240.0.0.1": false, "::ffff:127.0.0.1": false, "::ffff:169.254.169.254": false,
		"::127.0.0.1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::1": false, "2002:a9fe:a9fe::1": false,
	} {
		if got := public(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	if public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

func TestResolvConf(t *testing.T) {
	c := parseResolvConf("# x\nnameserver 9.9.9.9\nnameserver nonsense\nnameserver\ndomain old.example\nsearch a.example. b.example bad..example\nnameserver ::1\nnameserver 1.1.1.1\nnameserver 8.8.8.8\n")
	if want := []string{"a.example", "b.example"}; !slices.Equal(c.search, want) {
		t.Error(c.search)
	}
	if want := []netip.Addr{netip.MustParseAddr("9.9.9.9"), netip.MustParseAddr("::1"), netip.MustParseAddr("1.1.1.1")}; !slices.Equal(c.servers, want) {
		t.Error(c.servers)
	}
	if c := parseResolvConf(""); !slices.Equal(c.servers, []netip.Addr{fallbackResolver}) {
		t.Error(c.servers)
	}
}

func TestTheLeaseIsAlwaysTheSame(t *testing.T) {
	host := resolvConf{search: []string{"a.example"}}
	mac := net.HardwareAddr(guestMAC)
	discover, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		t.Fatal(err)
	}
	offer := dhcpAnswer(discover.ToBytes(), host, 9000, guestAddr)
	if offer == nil || offer.MessageType() != dhcpv4.MessageTypeOffer || !offer.YourIPAddr.Equal(guestAddr.AsSlice()) ||
		!offer.Router()[0].Equal(gateway.AsSlice()) || !offer.DNS()[0].Equal(gateway.AsSlice()) || offer.TransactionID != discover.TransactionID ||
		offer.DomainName() != "a.example" || !bytes.Equal(offer.Options.Get(dhcpv4.OptionInterfaceMTU), []byte{0x23, 0x28}) {
		t.Fatalf("offer: %v", offer)
	}
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		t.Fatal(err)
	}
	if ack := dhcpAnswer(request.ToBytes(), host, 1500, guestAddr); ack == nil || ack.MessageType() != dhcpv4.MessageTypeAck || ack.IPAddressLeaseTime(0) != leaseTime {
		t.Errorf("ack: %v", ack)
	}
	request.UpdateOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 0, 2, 99)))
	if nak := dhcpAnswer(request.ToBytes(), host, 1500, guestAddr); nak == nil || nak.MessageType() != dhcpv4.MessageTypeNak || !nak.YourIPAddr.IsUnspecified() {
		t.Errorf("nak: %v", nak)
	}
	request.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 3)))
	if a := dhcpAnswer(request.ToBytes(), host, 1500, guestAddr); a != nil {
		t.Errorf("another server was chosen: %v", a)
	}
}

// exchange sends one frame and returns the first frame that arrives.
func exchange(t testing.TB, d *virtiotest.Driver, frame []byte) []byte {
	t.Helper()
	in, got := d.Buffer(2048)
	d.Rings[0].Add(queuetest.Desc{GPA: in, Len: 2048, Flags: queuetest.Write})
	transmitFrame(t, d, frame)
	u, err := d.Rings[0].WaitUsed(testenv.Patience)
	if err != nil {
		t.Fatal(err)
	}
	return got[hdrBytes:u.Len]
}

func transmitFrame(t testing.TB, d *virtiotest.Driver, frame []byte) {
	t.Helper()
	postFrame(d, frame)
	if _, err := d.Rings[1].WaitUsed(testenv.Patience); err != nil {
		t.Fatal(err)
	}
}

// postFrame is like transmitFrame, for a device that may fail because of the frame.
func postFrame(d *virtiotest.Driver, frame []byte) {
	out, sent := d.Buffer(hdrBytes + len(frame))
	copy(sent[hdrBytes:], frame)
	d.Rings[1].Add(queuetest.Desc{GPA: out, Len: uint32(len(sent))})
	d.Rings[1].Kick()
}

func TestAGuestLeasesItsAddressOverTheWire(t *testing.T) {
	d := virtiotest.NewDriver(t, device(t, Config{resolvConf: "/nonexistent"}))
	d.Start(all)
	discover, err := dhcpv4.NewDiscovery(guestMAC)
	if err != nil {
		t.Fatal(err)
	}
	f := udpFrame(header.EthernetBroadcastAddress, netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), discover.ToBytes())
	copy(f[6:], guestMAC)
	answer := exchange(t, d, f)
	ip := header.IPv4(answer[ethBytes:])
	u := header.UDP(ip.Payload())
	if !ip.IsValid(len(ip)) || ip.CalculateChecksum() != 0xffff || u.DestinationPort() != dhcpClientPort {
		t.Fatalf("% x", answer)
	}
	if offer, err := dhcpv4.FromBytes(u.Payload()); err != nil || !offer.YourIPAddr.Equal(guestAddr.AsSlice()) {
		t.Errorf("%v, %v", offer, err)
	}
}

// A guest's probe for a duplicate of its address must stay unanswered: the frame
// after the probe is the first one with an answer.
func TestOnlyTheGatewayAnswers(t *testing.T) {
	d := virtiotest.NewDriver(t, device(t, Config{Policy: Policy{Isolated: true}}))
	d.Start(all)
	probe := arpFrame([4]byte{10, 0, 2, 15})
	clear(probe[28:32])
	transmitFrame(t, d, probe)
	transmitFrame(t, d, arpFrame([4]byte{10, 0, 2, 3}))
	transmitFrame(t, d, arpFrame([4]byte{192, 0, 2, 3}))
	transmitFrame(t, d, echoRequest(netip.MustParseAddr("10.0.2.3")))
	answer := exchange(t, d, arpFrame([4]byte{10, 0, 2, 2}))
	if !bytes.Equal(answer[28:32], []byte{10, 0, 2, 2}) {
		t.Errorf("% x", answer)
	}
}

// icmpFrame returns a frame from the guest with an ICMP message.
func icmpFrame(src, dst netip.Addr, hops uint8, message []byte) []byte {
	proto := header.ICMPv4ProtocolNumber
	if src.Is6() {
		proto = header.ICMPv6ProtocolNumber
	}
	message = bytes.Clone(message)
	setICMPChecksum(message, src, dst)
	f := etherFrame(gatewayMAC, ipPacket(proto, hops, src, dst, message))
	copy(f[6:], guestMAC)
	return f
}

func echoRequest(to netip.Addr) []byte {
	if to.Is6() {
		return icmpFrame(guestAddr6, to, 64, []byte{128, 0, 0, 0, 0, 7, 0, 1, 'h', 'i'})
	}
	return icmpFrame(guestAddr, to, 64, []byte{8, 0, 0, 0, 0, 7, 0, 1, 'h', 'i'})
}

// A panic stops only the NIC, and a reset restarts it.
func TestAPanicStopsOnlyTheNIC(t *testing.T) {
	dev := device(t, Config{outside: func(netip.AddrPort) netip.AddrPort { panic("out of order") }})
	d := virtiotest.NewDriver(t, dev)
	d.Start(all)
	postFrame(d, echoRequest(netip.MustParseAddr("192.0.2.3")))
	if err := d.WaitNeedsReset(); err != nil {
		t.Error(err)
	}
	d.Reset()
	d.Start(all)
	arpTraffic(t, d)
}

// The stack's own goroutines write packets: a panic in this package is caught there too.
func TestAPanicBelowTheStackStopsOnlyTheNIC(t *testing.T) {
	var failed error
	l := &link{failed: func(err error) { failed = err }} // no receiver
	var pkts stack.PacketBufferList
	pkts.PushBack(stack.NewPacketBuffer(stack.PacketBufferOptions{}))
	defer pkts.Reset()
	if n, err := l.WritePackets(pkts); n != 0 || err != nil || failed == nil {
		t.Errorf("%d, %v, %v", n, err, failed)
	}
}

// FuzzFrame: no frame from a guest stops the data path.
func FuzzFrame(f *testing.F) {
	discover, err := dhcpv4.NewDiscovery(guestMAC)
	if err != nil {
		f.Fatal(err)
	}
	syn := etherFrame(gatewayMAC, ipPacket(header.TCPProtocolNumber, 64, guestAddr, gateway, tcpHeader(1, 2, header.TCPFlagSyn)))
	for _, seed := range [][]byte{
		arpFrame([4]byte{10, 0, 2, 2}), echoRequest(gateway), echoRequest(outside), syn,
		udpFrame(gatewayMAC, netip.MustParseAddrPort("0.0.0.0:68"), netip.MustParseAddrPort("255.255.255.255:67"), discover.ToBytes()),
		udpFrame(gatewayMAC, netip.AddrPortFrom(guestAddr, 9), netip.AddrPortFrom(gateway, 9), []byte("x")),
		{}, make([]byte, ethBytes), make([]byte, ethBytes+1),
		solicitation(guestAddr6, gateway6), solicitation(netip.IPv6Unspecified(), guestAddr6), echoRequest(gateway6), echoRequest(outside6),
		icmpFrame(netip.MustParseAddr("fe80::15"), netip.MustParseAddr("ff02::2"), 255, []byte{133, 0, 0, 0, 0, 0, 0, 0}),
		guestUDPFrame(netip.MustParseAddrPort("[fe80::15]:546"), netip.AddrPortFrom(allDHCPServers, 547), 1, "\x0b123\x00\x01\x00\x01d"),
		guestUDPFrame(netip.AddrPortFrom(guestAddr6, 9), netip.AddrPortFrom(gateway6, 53), 64, "question0000"),
		guestUDPFrame(netip.AddrPortFrom(guestAddr6, 9), netip.AddrPortFrom(outside6, 9), 1, "x"),
		synFrame(netip.AddrPortFrom(guestAddr6, 1), netip.AddrPortFrom(gateway6, 2)),
		fromTheGuest(ipPacket(header.IPv6FragmentHeader, 64, guestAddr6, gateway6, []byte{17, 0, 0, 1, 0, 0, 0, 1, 0, 9, 0, 9, 0, 8, 0, 0})),
	} {
		f.Add(uint8(0), uint8(0), seed)
	}
	b, err := New(Config{Policy: Policy{Isolated: true}, resolvConf: "/nonexistent"})
	if err != nil {
		f.Fatal(err)
	}
	d := virtiotest.NewDriver(f, &fuzzed{b})
	d.Start(all)
	f.Cleanup(func() { d.Close() })
	out, sent := d.Buffer(hdrBytes + 4096)
	in, _ := d.Buffer(2048)
	for range 64 {
		d.Rings[0].Add(queuetest.Desc{GPA: in, Len: 2048, Flags: queuetest.Write})
	}
	f.Fuzz(func(t *testing.T, flags, gso uint8, frame []byte) {
		frame = frame[:min(len(frame), 4096)]
		clear(sent[:hdrBytes])
		sent[0], sent[1] = flags, gso
		copy(sent[hdrBytes:], frame)
		d.Rings[1].Add(queuetest.Desc{GPA: out, Len: uint32(hdrBytes + len(frame))})
		d.Rings[1].Kick()
		if _, err := d.Rings[1].WaitUsed(testenv.Patience); err != nil {
			t.Fatal(err)
		}
		for {
			if _, ok := d.Rings[0].Used(); !ok {
				break
			}
			d.Rings[0].Add(queuetest.Desc{GPA: in, Len: 2048, Flags: queuetest.Write})
			d.Rings[0].Kick()
		}
		if d.Status()&virtio.StatusNeedsReset != 0 {
			t.Fatal("the device needs a reset")
		}
	})
}

func tcpHeader(src, dst uint16, flags header.TCPFlags) []byte {
	h := make(header.TCP, header.TCPMinimumSize)
	h.Encode(&header.TCPFields{SrcPort: src, DstPort: dst, SeqNum: 1000, DataOffset: header.TCPMinimumSize, Flags: flags, WindowSize: 1000})
	return h
}

// fuzzed is a device that passes everything to its backend.
type fuzzed struct{ *Backend }

func (*fuzzed) ID() virtio.DeviceID                  { return virtio.NetID }
func (*fuzzed) QueueSizes() []uint16                 { return []uint16{256, 256} }
func (*fuzzed) ReadConfig([]byte, uint32)            {}
func (*fuzzed) WriteConfig([]byte, uint32)           {}
func (*fuzzed) InKernel(int) bool                    { return false }
func (f *fuzzed) Activate(a virtio.Activation) error { return f.Start(a) }
func (f *fuzzed) Reset() error                       { return f.Stop() }

func TestTake(t *testing.T) {
	for name, c := range map[string]struct {
		pieces queue.Buffers
		ok     bool
	}{
		"nothing":          {nil, false},
		"half a header":    {queue.Buffers{make([]byte, 6)}, false},
		"no packet":        {queue.Buffers{make([]byte, hdrBytes+ethBytes)}, false},
		"one byte":         {queue.Buffers{make([]byte, hdrBytes+ethBytes+1)}, true},
		"cut anywhere":     {queue.Buffers{make([]byte, 5), make([]byte, 20), make([]byte, 9)}, true},
		"largest":          {queue.Buffers{make([]byte, hdrBytes+maxFrame)}, true},
		"too large":        {queue.Buffers{make([]byte, hdrBytes+maxFrame+1)}, false},
		"UDP segments":     {queue.Buffers{append([]byte{0, 3}, make([]byte, 100)...)}, false},
		"TCPv4 segments":   {queue.Buffers{append([]byte{1, 1}, make([]byte, 100)...)}, true},
		"no kind of frame": {queue.Buffers{append([]byte{0, 0x7f}, make([]byte, 100)...)}, false},
	} {
		if _, ok := take(&c.pieces); ok != c.ok {
			t.Errorf("%s: %v", name, ok)
		}
	}
}
