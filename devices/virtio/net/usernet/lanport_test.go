package usernet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/lan"
	"minivmm/internal/testbed/testenv"
)

// station returns the configuration of a machine on a network.
func station(dir, name string, n byte) Config {
	return Config{Network: &Network{Name: "lab", Dir: dir + "/lab", Station: name, MAC: [6]byte{2, 0, 0, 0, 1, n}}}
}

func TestGuestsOfOneNetworkReachEachOther(t *testing.T) {
	for name, features := range featureSets {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			a, b := boot(t, station(dir, "a", 1), all), boot(t, station(dir, "b", 2), features)
			l, err := gonet.ListenTCP(b.Stack, tcpip.FullAddress{Port: 80}, ipv4.ProtocolNumber)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go acceptAll(l, func(c net.Conn) { io.Copy(c, c); c.(*gonet.TCPConn).CloseWrite() })
			m := a.lookup(t, "udp", "b.")
			if len(m.Answers) != 1 || netip.AddrFrom4(m.Answers[0].Body.(*dnsmessage.AResource).A) != b.addr {
				t.Fatalf("%v", m)
			}
			c, err := a.dial(t, netip.AddrPortFrom(b.addr, 80))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			data := make([]byte, 512<<10)
			rand.NewChaCha8([32]byte{1}).Read(data)
			go func() {
				c.Write(data)
				c.CloseWrite()
			}()
			h := sha256.New()
			c.SetDeadline(time.Now().Add(testenv.Patience))
			if n, err := io.Copy(h, c); err != nil || !bytes.Equal(h.Sum(nil), sum(data)) {
				t.Errorf("%d bytes came back: %v", n, err)
			}
		})
	}
}

func TestNamesOfANetwork(t *testing.T) {
	dir := t.TempDir()
	cfg := answering(t, func(name string) []dnsmessage.Resource {
		if name != "elsewhere.example." {
			t.Error("a query left the host:", name)
		}
		return nil
	})
	cfg.Network = station(dir, "a", 1).Network
	a := boot(t, cfg, all)
	b := boot(t, station(dir, "b", 2), all)
	address := func(name string) (string, dnsmessage.RCode) {
		m := a.lookup(t, "udp", name)
		if len(m.Answers) == 0 {
			return "", m.RCode
		}
		return netip.AddrFrom4(m.Answers[0].Body.(*dnsmessage.AResource).A).String(), m.RCode
	}
	for name, want := range map[string]string{
		"a.": a.addr.String(), "b.": b.addr.String(), "B.": b.addr.String(), "b.lab.internal.": b.addr.String(), "b.LAB.internal.": b.addr.String(),
		"c.lab.internal.": "", "elsewhere.example.": "",
	} {
		got, code := address(name)
		if got != want || (code == dnsmessage.RCodeNameError) != (name == "c.lab.internal.") {
			t.Errorf("%s: %s, %v", name, got, code)
		}
	}
	m := a.query(t, "tcp", dnsmessage.Question{Name: dnsmessage.MustNewName("b."), Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET})
	if len(m.Answers) != 0 || m.RCode != 0 {
		t.Errorf("%v", m)
	}
	b.halt()
	for end := time.Now().Add(testenv.Patience); ; {
		if _, code := address("b.lab.internal."); code == dnsmessage.RCodeNameError {
			break
		}
		if time.Now().After(end) {
			t.Fatal("b has left, but its name still resolves")
		}
	}
}

// A machine keeps its station while its guest is reset. Frames that arrive meanwhile are dropped.
func TestAResetKeepsTheStation(t *testing.T) {
	dir := t.TempDir()
	cfg := station(dir, "a", 1)
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.NewDriver(t, over(t, b))
	peer := boot(t, station(dir, "b", 2), all)
	for range 3 {
		d.Start(all)
		arpTraffic(t, d)
		d.Reset()
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if _, err := gonet.DialContextTCP(ctx, peer.Stack, full(netip.AddrPortFrom(b.cfg.guest, 1)), ipv4.ProtocolNumber); err == nil {
			t.Error("a guest without a driver has answered")
		}
		cancel()
	}
}

func TestNothingIsLeftOfANetwork(t *testing.T) {
	dir := t.TempDir()
	peer := boot(t, station(dir, "b", 2), all)
	before := virtiotest.TakeFootprint(t)
	a := boot(t, station(dir, "a", 1), all)
	if c, err := a.dial(t, netip.AddrPortFrom(peer.addr, 9)); err == nil {
		c.Close()
	}
	a.halt()
	before.Holds(t)
	if _, err := New(station(dir, "b", 3)); err == nil || !strings.Contains(err.Error(), "network lab: a station named b already exists") {
		t.Error(err)
	}
	before.Holds(t)
}

var (
	alice = lan.Card{Name: "alice", MAC: lan.MAC{2, 0, 0, 0, 0, 1}, Addr: netip.MustParseAddr("10.0.2.20")}
	bob   = lan.Card{Name: "bob", MAC: lan.MAC{2, 0, 0, 0, 0, 2}, Addr: netip.MustParseAddr("10.0.2.21")}
)

// between returns a frame from alice to bob with body as the IP payload.
func between(proto tcpip.TransportProtocolNumber, body []byte) []byte {
	f := etherFrame(tcpip.LinkAddress(bob.MAC[:]), ipPacket(proto, 64, alice.Addr, bob.Addr, body))
	copy(f[6:], alice.MAC[:])
	return f
}

// tcpSegment returns a frame with a TCP header, n bytes and a partial checksum, as a driver sends
// it.
func tcpSegment(n, mss int) ([]byte, offload) {
	body := make([]byte, header.TCPMinimumSize+n)
	for i := range n {
		body[header.TCPMinimumSize+i] = byte(i * 7)
	}
	tcp := header.TCP(body)
	tcp.Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, SeqNum: 1 << 31, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck | header.TCPFlagPsh | header.TCPFlagFin | tcpCWR, WindowSize: 9})
	tcp.SetChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, address(alice.Addr), address(bob.Addr), uint16(len(body))))
	o := offload{hdrNeedsCsum}
	if mss > 0 {
		o[1] = gsoTCPv4
	}
	binary.LittleEndian.PutUint16(o[2:], 54)
	binary.LittleEndian.PutUint16(o[4:], uint16(mss))
	binary.LittleEndian.PutUint16(o[6:], 34)
	binary.LittleEndian.PutUint16(o[8:], 16)
	return between(header.TCPProtocolNumber, body), o
}

// A guest may send only with its own addresses, and must not impersonate the gateway.
func TestWhichFramesCross(t *testing.T) {
	udp := func(src, dst uint16) []byte {
		b := make([]byte, 20)
		header.UDP(b).Encode(&header.UDPFields{SrcPort: src, DstPort: dst, Length: 20})
		return b
	}
	with := func(f []byte, at int, b ...byte) []byte { copy(f[at:], b); return sumIP(f) }
	tcp, _ := tcpSegment(10, 0)
	arp := func(op, mac byte, sender, target byte) []byte {
		f := arpFrame([4]byte{10, 0, 2, target})
		copy(f[6:], alice.MAC[:])
		copy(f[22:], alice.MAC[:])
		f[21], f[27], f[31] = op, f[27]+mac, sender
		if sender == 0 {
			clear(f[28:32])
		}
		return f
	}
	for name, c := range map[string]struct {
		frame []byte
		ok    bool
	}{
		"TCP":                                  {tcp, true},
		"UDP":                                  {between(header.UDPProtocolNumber, udp(1, 2)), true},
		"to all":                               {with(between(header.UDPProtocolNumber, udp(1, 2)), 30, 255, 255, 255, 255), true},
		"to all of the network":                {with(between(header.UDPProtocolNumber, udp(1, 2)), 30, 10, 0, 2, 255), true},
		"to a group":                           {with(between(header.UDPProtocolNumber, udp(1, 2)), 30, 224, 0, 0, 251), true},
		"a lease":                              {between(header.UDPProtocolNumber, udp(67, 68)), false},
		"a lease from elsewhere":               {between(header.UDPProtocolNumber, udp(1, 68)), false},
		"a redirect":                           {between(header.ICMPv4ProtocolNumber, []byte{5, 1, 0, 0, 10, 0, 2, 2}), false},
		"an echo":                              {between(header.ICMPv4ProtocolNumber, []byte{8, 0, 0, 0, 0, 0, 0, 1}), true},
		"another's MAC":                        {with(between(header.UDPProtocolNumber, udp(1, 2)), 6, bob.MAC[:]...), false},
		"the gateway's MAC":                    {with(between(header.UDPProtocolNumber, udp(1, 2)), 6, []byte(gatewayMAC)...), false},
		"another's address":                    {with(between(header.UDPProtocolNumber, udp(1, 2)), 26, 10, 0, 2, 22), false},
		"the gateway's address":                {with(between(header.UDPProtocolNumber, udp(1, 2)), 26, 10, 0, 2, 2), false},
		"to the outside":                       {with(between(header.UDPProtocolNumber, udp(1, 2)), 30, 1, 1, 1, 1), false},
		"longer than it is":                    {with(between(header.UDPProtocolNumber, udp(1, 2)), 16, 9, 9), false},
		"IPv6":                                 {with(between(header.UDPProtocolNumber, udp(1, 2)), 12, 0x86, 0xdd), false},
		"a VLAN":                               {with(between(header.UDPProtocolNumber, udp(1, 2)), 12, 0x81, 0), false},
		"half a header":                        {tcp[:ethBytes+10], false},
		"a question":                           {arp(1, 0, 20, 21), true},
		"an answer":                            {arp(2, 0, 20, 21), true},
		"a probe":                              {arp(1, 0, 0, 20), true},
		"an answer without a sender":           {arp(2, 0, 0, 20), false},
		"an answer with another's address":     {arp(2, 0, 22, 21), false},
		"an answer with the gateway's address": {arp(2, 0, 2, 21), false},
		"an answer with another's MAC":         {arp(2, 1, 20, 21), false},
		"a question for the gateway":           {arp(1, 0, 20, 2), false},
		"half an ARP":                          {arp(1, 0, 20, 21)[:30], false},
		"the later piece of a datagram":        {with(between(header.UDPProtocolNumber, make([]byte, 8)), 20, 0, 1), true},
	} {
		var o offload
		if _, ok := cross(&o, c.frame[:ethBytes], c.frame[ethBytes:], alice); ok != c.ok {
			t.Errorf("%s: %v", name, ok)
		}
	}
}

func sumIP(f []byte) []byte {
	ip := header.IPv4(f[ethBytes:])
	ip.SetChecksum(0)
	ip.SetChecksum(^checksum.Checksum(ip[:header.IPv4MinimumSize], 0))
	return f
}

// A large segment is split into complete frames with the same bytes,
// for a guest that accepts no large segments.
func TestSegments(t *testing.T) {
	for _, c := range []struct{ size, mss, frames int }{{1, 0, 1}, {1400, 0, 1}, {1460, 1460, 1}, {1461, 1460, 2}, {60000, 1448, 42}, {65000, 64, 1016}} {
		f, o := tcpSegment(c.size, c.mss)
		packet, ok := cross(&o, f[:ethBytes], f[ethBytes:], alice)
		if !ok || len(packet) != len(f)-ethBytes {
			t.Fatalf("%v: dropped", c)
		}
		all := segments(o, bytes.Clone(f))
		if len(all) != c.frames {
			t.Errorf("%v: %d frames", c, len(all))
		}
		var data []byte
		for i, s := range all {
			ip := header.IPv4(s[ethBytes:])
			tcp := header.TCP(ip.Payload())
			sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(tcp)))
			if !ip.IsValid(len(ip)) || ip.CalculateChecksum() != 0xffff || int(ip.TotalLength()) != len(ip) || checksum.Checksum(tcp, sum) != 0xffff {
				t.Fatalf("%v: frame %d: % x", c, i, s[:54])
			}
			last, first := i == len(all)-1, i == 0
			flags := tcp.Flags()
			if tcp.SequenceNumber() != 1<<31+uint32(len(data)) || flags.Contains(header.TCPFlagFin) != last || flags.Contains(tcpCWR) != first || c.mss > 0 && ip.ID() != uint16(i) {
				t.Errorf("%v: frame %d: seq %d flags %v", c, i, tcp.SequenceNumber(), flags)
			}
			data = append(data, tcp.Payload()...)
		}
		if !bytes.Equal(data, f[54:]) {
			t.Errorf("%v: the data differs", c)
		}
	}
}

// A checksum that does not belong to the packet's own header, such as from a tunnel in a guest,
// is completed.
func TestAnInnerChecksumIsCompleted(t *testing.T) {
	f := between(header.UDPProtocolNumber, append(make([]byte, 28), "inside"...))
	o := offload{hdrNeedsCsum, 0, 0, 0, 0, 0, ethBytes + 28, 0, 6}
	p, ok := cross(&o, f[:ethBytes], f[ethBytes:], alice)
	if !ok || o != (offload{}) || checksum.Checksum(p[28:], 0) != 0xffff {
		t.Errorf("%v, % x, % x", ok, o, p)
	}
}

// FuzzCross: a frame that crosses has the sender's addresses, its offload header is valid, and it
// can be converted for a guest without offloads.
func FuzzCross(f *testing.F) {
	for _, mss := range []int{0, 64, 100} {
		s, o := tcpSegment(300, mss)
		f.Add(o[:], s)
	}
	f.Add(make([]byte, offloadBytes), arpFrame([4]byte{10, 0, 2, 21}))
	f.Fuzz(func(t *testing.T, hdr, frame []byte) {
		if len(hdr) < offloadBytes || len(frame) <= ethBytes || len(frame) > maxFrame {
			return
		}
		copy(frame[6:], alice.MAC[:])
		o := offload(hdr)
		p, ok := cross(&o, frame[:ethBytes], frame[ethBytes:], alice)
		if !ok {
			return
		}
		if o.needsSum() && o.sumStart()+o.sumOffset()+2 > ethBytes+len(p) || o.gso() != gsoNone && (o.gso() != gsoTCPv4 || o.hdrLen() > ethBytes+len(p) || o.segment() == 0) {
			t.Errorf("% x of %d bytes", o, len(p))
		}
		n := 0
		for _, s := range segments(o, frame[:ethBytes+len(p)]) {
			n += len(s)
			if header.Ethernet(s).Type() == header.IPv4ProtocolNumber && (addr(header.IPv4(s[ethBytes:]).SourceAddress()) != alice.Addr || int(header.IPv4(s[ethBytes:]).TotalLength()) != len(s)-ethBytes) {
				t.Errorf("% x", s)
			}
		}
		if n < ethBytes+len(p) {
			t.Errorf("%d bytes of %d", n, ethBytes+len(p))
		}
		// The receiving side accepts it too, unchanged.
		again := o
		if q, ok := cross(&again, frame[:ethBytes], p, alice); !ok || again != o || len(q) != len(p) {
			t.Errorf("% x, then % x", o, again)
		}
	})
}

// A flood from another guest leaves room for frames from the gateway.
func TestAFloodFromAStationLeavesRoom(t *testing.T) {
	dir := t.TempDir()
	cfg := station(dir, "a", 1)
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := virtiotest.NewDriver(t, over(t, b))
	d.Start(all) // without buffers, so that all frames wait
	s := b.live.Load()
	f, o := tcpSegment(60000, 1448)
	copy(f, s.lan.MAC[:])
	message := append(o[:], f...)
	for range 1000 {
		s.fromStation(alice, message)
	}
	s.recv.mu.Lock()
	waiting := s.recv.bytes
	s.recv.mu.Unlock()
	if waiting > maxBacklog/2 || waiting < maxBacklog/4 {
		t.Errorf("%d bytes wait", waiting)
	}
	if s.recv.send(frame{raw: make([]byte, maxFrame)}) != 1 {
		t.Error("no room for the gateway")
	}
}
