package usernet

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/internal/task"
)

// gatewayMAC is a locally administered MAC address.
const gatewayMAC = tcpip.LinkAddress("\x52\x55\x0a\x00\x02\x02")

// maxGSO is the largest segment that the stack creates in one piece, including its headers.
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

// MTU returns the maximum IP packet size.
func (l *link) MTU() uint32 { return l.mtu }

// SetMTU does nothing: the guest's MTU is fixed.
func (*link) SetMTU(uint32) {}

// MaxHeaderLength returns the size of the Ethernet header.
func (*link) MaxHeaderLength() uint16 { return ethBytes }

// LinkAddress returns the gateway's MAC address.
func (*link) LinkAddress() tcpip.LinkAddress { return gatewayMAC }

// SetLinkAddress does nothing.
func (*link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities: neighbors must be resolved, and checksums of incoming packets are not verified. The
// capability to omit outgoing checksums comes with GSO.
func (*link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
}

// GSOMaxSize returns the maximum size of one packet.
func (*link) GSOMaxSize() uint32 { return maxGSO }

// SupportedGSO reports whether the guest accepts large segments with partial checksums.
func (l *link) SupportedGSO() stack.SupportedGSO {
	if l.gso {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// Attach connects the stack, or disconnects it if d is nil.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.dispatcher.Store(nil)
		return
	}
	l.dispatcher.Store(&d)
}

// IsAttached reports whether a stack is connected.
func (l *link) IsAttached() bool { return l.dispatcher.Load() != nil }

// Wait returns immediately: link has no goroutines.
func (*link) Wait() {}

// ARPHardwareType returns Ethernet.
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// Close does nothing: the queue belongs to the session.
func (*link) Close() {}

// SetOnCloseAction does nothing.
func (*link) SetOnCloseAction(func()) {}

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

// WritePackets sends packets to the guest. It catches panics because goroutines of the stack also
// call it, where nothing else would.
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

// deliver passes a packet to the stack.
func (l *link) deliver(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if d := l.dispatcher.Load(); d != nil {
		(*d).DeliverNetworkPacket(proto, pkt)
	}
}
