package usernet

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/internal/task"
)

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

// newLink returns a link whose neighbors must be resolved, and that does not verify the checksums of
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
