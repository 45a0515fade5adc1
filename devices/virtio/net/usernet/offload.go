package usernet

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// offload is a frame's virtio_net_hdr without num_buffers. It describes the checksum and
// segmentation that the frame still needs.
type offload [offloadBytes]byte

const offloadBytes = 10

func (o *offload) needsSum() bool { return o[0]&hdrNeedsCsum != 0 }
func (o *offload) gso() byte      { return o[1] &^ gsoECN }
func (o *offload) hdrLen() int    { return int(binary.LittleEndian.Uint16(o[2:])) }
func (o *offload) segment() int   { return int(binary.LittleEndian.Uint16(o[4:])) }
func (o *offload) sumStart() int  { return int(binary.LittleEndian.Uint16(o[6:])) }
func (o *offload) sumOffset() int { return int(binary.LittleEndian.Uint16(o[8:])) }

// minSegment is the smallest segment size between guests: an MTU below 256 is not supported.
const minSegment = 64

// check corrects o to match an IPv4 packet, and reports whether the packet can be passed on. It
// completes a checksum that is not in the packet's own TCP or UDP header, for example the checksum
// of a packet inside a tunnel.
func (o *offload) check(p []byte) bool {
	if !o.needsSum() {
		whole := o.gso() == gsoNone
		*o = offload{}
		return whole
	}
	ip := header.IPv4(p)
	start := ethBytes + int(ip.HeaderLength())
	field, size := -1, 0
	if !ip.More() && ip.FragmentOffset() == 0 {
		switch ip.TransportProtocol() {
		case header.TCPProtocolNumber:
			field, size = header.TCPChecksumOffset, header.TCPMinimumSize
		case header.UDPProtocolNumber:
			field, size = 6, header.UDPMinimumSize
		}
	}
	ours := o.sumStart() == start && o.sumOffset() == field && ethBytes+len(p) >= start+size
	if o.gso() == gsoNone {
		if !ours && !complete(p, o.sumStart()-ethBytes, o.sumOffset()) {
			return false
		}
		clear(o[1:6])
		if !ours {
			*o = offload{}
		}
		o[0] &= hdrNeedsCsum
		return true
	}
	if !ours || o.gso() != gsoTCPv4 || field != header.TCPChecksumOffset || o.segment() < minSegment {
		return false
	}
	tcp := header.TCP(ip.Payload())
	if int(tcp.DataOffset()) < header.TCPMinimumSize || int(tcp.DataOffset()) > len(tcp) {
		return false
	}
	o[0] = hdrNeedsCsum
	binary.LittleEndian.PutUint16(o[2:], uint16(start+int(tcp.DataOffset())))
	return true
}

// complete completes the checksum of p from start. The field at offset from start holds the sum of
// the pseudo header. It returns false if the field is outside p.
func complete(p []byte, start, offset int) bool {
	if start < 0 || start+offset+2 > len(p) {
		return false
	}
	sum := ^checksum.Checksum(p[start:], 0)
	if sum == 0 {
		sum = 0xffff // the same value, but UDP reads 0 as "no checksum"
	}
	binary.BigEndian.PutUint16(p[start+offset:], sum)
	return true
}

// segments splits a checked frame for a guest that accepts no large segments and no partial
// checksums (virtio 1.2 §5.1.6.4.1: VIRTIO_NET_F_GUEST_*).
func segments(o offload, f []byte) [][]byte {
	if !o.needsSum() {
		return [][]byte{f}
	}
	if o.gso() == gsoNone {
		complete(f, o.sumStart(), o.sumOffset())
		return [][]byte{f}
	}
	var out [][]byte
	head, data := f[:o.hdrLen()], f[o.hdrLen():]
	ihl := o.sumStart() - ethBytes
	seq := header.TCP(head[o.sumStart():]).SequenceNumber()
	for off := 0; ; off += o.segment() {
		part := data[off:min(off+o.segment(), len(data))]
		last := off+len(part) == len(data)
		s := append(append(make([]byte, 0, len(head)+len(part)), head...), part...)
		ip := header.IPv4(s[ethBytes:])
		ip.SetTotalLength(uint16(len(s) - ethBytes))
		ip.SetID(ip.ID() + uint16(off/o.segment()))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		tcp := header.TCP(s[ethBytes+ihl:])
		tcp.SetSequenceNumber(seq + uint32(off))
		flags := uint8(tcp.Flags())
		if !last {
			flags &^= uint8(header.TCPFlagFin | header.TCPFlagPsh)
		}
		if off > 0 {
			flags &^= tcpCWR
		}
		tcp.SetFlags(flags)
		tcp.SetChecksum(0)
		sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(tcp)))
		tcp.SetChecksum(^checksum.Checksum(tcp, sum))
		if out = append(out, s); last {
			return out
		}
	}
}

// tcpCWR is "congestion window reduced", which only the first segment carries (RFC 3168 §6.1.2).
const tcpCWR = 0x80

// struct virtio_net_hdr_v1 (virtio 1.2 §5.1.6; uapi/linux/virtio_net.h) precedes every frame of a
// driver that negotiated VERSION_1.
const (
	hdrBytes     = 12
	hdrNeedsCsum = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	gsoNone      = 0 // VIRTIO_NET_HDR_GSO_NONE
	gsoTCPv4     = 1 // VIRTIO_NET_HDR_GSO_TCPV4
	gsoTCPv6     = 4 // VIRTIO_NET_HDR_GSO_TCPV6
	gsoECN       = 0x80
)

const ethBytes = header.EthernetMinimumSize

// maxFrame is the largest frame that the guest may send: an Ethernet header and an IP packet.
const maxFrame = ethBytes + 65535

// sendable reports whether the guest may send a frame with o: the device offers only TCP
// segmentation.
func (o *offload) sendable() bool {
	return o.gso() == gsoNone || o.gso() == gsoTCPv4 || o.gso() == gsoTCPv6
}

// completed returns a function that completes the checksum of a whole frame, or nil if the sender
// did not leave the checksum to the device.
func (o offload) completed() func(frame []byte) {
	if !o.needsSum() {
		return nil
	}
	return func(frame []byte) { complete(frame, o.sumStart(), o.sumOffset()) }
}

// offloadOf returns the offload that pkt needs, because the stack left that work to the receiver.
func offloadOf(pkt *stack.PacketBuffer) (o offload) {
	gso := &pkt.GSOOptions
	if gso.Type == stack.GSONone || !gso.NeedsCsum {
		return o
	}
	// The stack left the sum of the pseudo header in the checksum field.
	headers := pkt.HeaderSize()
	start := headers - len(pkt.TransportHeader().Slice())
	o[0] = hdrNeedsCsum
	binary.LittleEndian.PutUint16(o[6:], uint16(start))
	binary.LittleEndian.PutUint16(o[8:], gso.CsumOffset)
	if gso.MSS == 0 || pkt.Data().Size() <= int(gso.MSS) {
		return o
	}
	o[1] = gsoTCPv4
	if gso.Type == stack.GSOTCPv6 {
		o[1] = gsoTCPv6
	}
	binary.LittleEndian.PutUint16(o[2:], uint16(headers))
	binary.LittleEndian.PutUint16(o[4:], gso.MSS)
	return o
}
