package usernet

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/internal/task"
)

// gatewayMAC is a locally administered address.
const gatewayMAC = tcpip.LinkAddress("\x52\x55\x0a\x00\x02\x02")

// maxGSO is the largest segment that the stack makes in one piece, its headers
// included.
const maxGSO = 65535

// link is the stack's end of the wire.
type link struct {
	mtu    uint32
	gso    bool
	recv   *receiver
	failed func(error)
	acks   acks

	dispatcher atomic.Pointer[stack.NetworkDispatcher]
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

// MTU is the largest IP packet.
func (l *link) MTU() uint32 { return l.mtu }

// SetMTU ignores: the guest's is fixed.
func (*link) SetMTU(uint32) {}

// MaxHeaderLength is the Ethernet header.
func (*link) MaxHeaderLength() uint16 { return ethBytes }

// LinkAddress is the gateway's.
func (*link) LinkAddress() tcpip.LinkAddress { return gatewayMAC }

// SetLinkAddress ignores.
func (*link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities are: neighbours must be asked for, and checksums that come in
// need no look. Those that go out come with GSO.
func (*link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
}

// GSOMaxSize is of one packet.
func (*link) GSOMaxSize() uint32 { return maxGSO }

// SupportedGSO is the guest's: it takes large segments with half a checksum.
func (l *link) SupportedGSO() stack.SupportedGSO {
	if l.gso {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// Attach connects the stack, or nil.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached says whether there is a stack.
func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// Wait has nobody to wait for.
func (*link) Wait() {}

// ARPHardwareType is Ethernet.
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// Close leaves the queue to its owner.
func (*link) Close() {}

// SetOnCloseAction has nothing to close.
func (*link) SetOnCloseAction(func()) {}

// AddHeader writes the Ethernet header.
func (*link) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(ethBytes)).Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader takes the Ethernet header off.
func (*link) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(ethBytes)
	return ok
}

// WritePackets gives packets to the guest. Goroutines of the stack's own call it
// too, where nobody else would catch a panic.
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

// deliver gives a packet to the stack.
func (l *link) deliver(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if d := l.dispatcher.Load(); d != nil {
		(*d).DeliverNetworkPacket(proto, pkt)
	}
}
