package usernet

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// struct virtio_net_hdr_v1 (virtio 1.2 §5.1.6; uapi/linux/virtio_net.h) precedes
// every frame of a driver that negotiated VERSION_1.
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

// sendable reports whether the guest may send a frame of this kind: only TCP segmentation was
// offered.
func sendable(hdr *[hdrBytes]byte) bool {
	switch hdr[1] &^ gsoECN {
	case gsoNone, gsoTCPv4, gsoTCPv6:
		return true
	}
	return false
}

// receiveHeader returns the header that precedes pkt in the given number of guest buffers.
func receiveHeader(pkt *stack.PacketBuffer, buffers int) (hdr [hdrBytes]byte) {
	binary.LittleEndian.PutUint16(hdr[10:], uint16(buffers))
	gso := &pkt.GSOOptions
	if gso.Type == stack.GSONone || !gso.NeedsCsum {
		return hdr
	}
	// The stack left the sum of the pseudo header in the checksum field.
	headers := pkt.HeaderSize()
	start := headers - len(pkt.TransportHeader().Slice())
	hdr[0] = hdrNeedsCsum
	binary.LittleEndian.PutUint16(hdr[6:], uint16(start))
	binary.LittleEndian.PutUint16(hdr[8:], gso.CsumOffset)
	if gso.MSS == 0 || pkt.Data().Size() <= int(gso.MSS) {
		return hdr
	}
	hdr[1] = gsoTCPv4
	if gso.Type == stack.GSOTCPv6 {
		hdr[1] = gsoTCPv6
	}
	binary.LittleEndian.PutUint16(hdr[2:], uint16(headers))
	binary.LittleEndian.PutUint16(hdr[4:], gso.MSS)
	return hdr
}
