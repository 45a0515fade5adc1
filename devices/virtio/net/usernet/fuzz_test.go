package usernet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// FuzzJudge: packets that pass to the stack have the guest's own source address, and their
// destination is the gateway or the outside.
func FuzzJudge(f *testing.F) {
	for _, frame := range [][]byte{
		echoRequest(gateway), echoRequest(outside6), solicitation(guestAddr6, gateway6), solicitation(guestAddr6, guestAddr6),
		icmpFrame(guestAddr6, gateway6, 255, append([]byte{136, 0, 0, 0, 0, 0, 0, 0}, guestAddr6.AsSlice()...)),
		icmpFrame(guestAddr6, allNodes, 255, []byte{134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}),
	} {
		f.Add(frame[ethBytes:])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if v := judgeIPv4(p); v == pass || v == expired {
			h := header.IPv4(p)
			src, dst := addr(h.SourceAddress()), addr(h.DestinationAddress())
			if !network.Contains(src) || src == gateway || dst.IsMulticast() || v == expired && (dst == gateway || h.TTL() > 1) {
				t.Errorf("%d of %v to %v", v, src, dst)
			}
		}
		if v := judgeIPv6(p); v == pass || v == expired {
			h := header.IPv6(p)
			src, dst := addr(h.SourceAddress()), addr(h.DestinationAddress())
			neighbor := h.NextHeader() == uint8(header.ICMPv6ProtocolNumber) && (h.Payload()[0] == 135 || h.Payload()[0] == 136)
			if isGateway(src) || !neighbor && (!isLocal(src) || dst.IsMulticast()) || v == expired && (isGateway(dst) || h.HopLimit() > 1 || neighbor) {
				t.Errorf("%d of %v to %v", v, src, dst)
			}
		}
	})
}

// FuzzDHCP: an answer matches its request, comes from the gateway, and offers only the guest's
// address.
func FuzzDHCP(f *testing.F) {
	discover, err := dhcpv4.NewDiscovery(guestMAC)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(discover.ToBytes())
	for _, wanted := range []netip.Addr{guestAddr, gateway} {
		request, err := dhcpv4.New(dhcpv4.WithHwAddr(guestMAC), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
			dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(wanted.AsSlice())), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway.AsSlice())))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(request.ToBytes())
	}
	inform, err := dhcpv4.NewInform(guestMAC, guestAddr.AsSlice())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(inform.ToBytes())
	f.Fuzz(func(t *testing.T, m []byte) {
		answer := dhcpAnswer(m, resolvConf{search: []string{"a.example"}}, 9000, guestAddr)
		if answer == nil {
			return
		}
		in, err := dhcpv4.FromBytes(m)
		if err != nil {
			t.Fatal(err)
		}
		out, err := dhcpv4.FromBytes(answer.ToBytes())
		if err != nil {
			t.Fatal(err)
		}
		your := out.YourIPAddr
		if out.OpCode != dhcpv4.OpcodeBootReply || out.TransactionID != in.TransactionID || !bytes.Equal(out.ClientHWAddr, in.ClientHWAddr) ||
			!out.ServerIdentifier().Equal(gateway.AsSlice()) || !your.IsUnspecified() && !your.Equal(guestAddr.AsSlice()) {
			t.Errorf("%v to %v", out.Summary(), in.Summary())
		}
		if nak := out.MessageType() == dhcpv4.MessageTypeNak; nak != (len(out.Options.Get(dhcpv4.OptionSubnetMask)) == 0) || nak && !your.IsUnspecified() {
			t.Errorf("%v", out.Summary())
		}
	})
}

// FuzzDHCPv6: an answer repeats the transaction ID, and its options fill it exactly.
func FuzzDHCPv6(f *testing.F) {
	f.Add([]byte{11, 1, 2, 3, 0, 1, 0, 4, 'd', 'u', 'i', 'd', 0, 6, 0, 2, 0, 23})
	f.Add([]byte{11, 1, 2, 3, 0, 1, 0xff, 0xff})
	f.Add([]byte{1, 1, 2, 3})
	f.Fuzz(func(t *testing.T, m []byte) {
		a := dhcp6Answer(m, []string{"a.example"})
		if a == nil {
			return
		}
		if a[0] != byte(dhcpv6.MessageTypeReply) || !bytes.Equal(a[1:4], m[1:4]) {
			t.Fatalf("% x", a)
		}
		const optionHeader = 4
		seen := 0
		for o := a[4:]; len(o) > 0; seen++ {
			o = o[optionHeader+int(binary.BigEndian.Uint16(o[2:])):]
		}
		if seen < 3 {
			t.Errorf("%d options", seen)
		}
	})
}

// FuzzresolvConf: whatever the file contains, an advertisement fits into the smallest packet and
// there is a resolver to ask.
func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 127.0.0.53\nsearch a.example b.example\n")
	f.Add("search " + strings.Repeat(strings.Repeat("x", 63)+".", 3) + "x\nnameserver fe80::1%eth0\n")
	f.Add("domain .\nnameserver\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := parseResolvConf(text)
		if len(c.servers) == 0 || len(c.servers) > 3 {
			t.Errorf("%d servers", len(c.servers))
		}
		m := advertisement(true, 1500, c.search)
		if len(m) > minMTU6-header.IPv6MinimumSize {
			t.Fatalf("%d bytes", len(m))
		}
		var names []string
		const fixed = 16 // bytes before the options
		for o := m[fixed:]; len(o) > 0; o = o[8*int(o[1]):] {
			if o[0] != 31 {
				continue
			}
			name := ""
			for b := o[8 : 8*int(o[1])]; len(b) > 0; b = b[1+int(b[0]):] {
				switch {
				case b[0] > 0:
					name += "." + string(b[1:1+b[0]])
				case name != "":
					names, name = append(names, name[1:]), ""
				}
			}
		}
		if !slices.Equal(names, c.search) {
			t.Errorf("%q of %q", names, c.search)
		}
	})
}
