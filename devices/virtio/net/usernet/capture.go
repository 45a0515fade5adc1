package usernet

import "minivmm/internal/pcap"

// defaultCapture is the default size limit of a capture, in bytes.
const defaultCapture = 1 << 30

// capture writes the frames that the guest sends and receives. A large segment is one packet, as
// the guest sees it. A checksum that was left to the device is written complete.
type capture struct{ *pcap.File }

func (c *capture) sent(f *inbound) {
	c.Write(f.offload.completed(), f.eth[:], f.view.AsSlice())
}

func (c *capture) received(hdr [hdrBytes]byte, f frame) {
	o := offload(hdr[:])
	if f.pkt != nil {
		c.Write(o.completed(), f.pkt.AsSlices()...)
	} else {
		c.Write(o.completed(), f.raw)
	}
}

// completed returns a function that completes the checksum of a whole frame, or nil if the sender
// did not leave the checksum to the device.
func (o offload) completed() func(frame []byte) {
	if !o.needsSum() {
		return nil
	}
	return func(frame []byte) { complete(frame, o.sumStart(), o.sumOffset()) }
}
