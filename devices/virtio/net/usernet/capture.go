package usernet

import "minivmm/internal/pcap"

// defaultCapture is where a capture ends.
const defaultCapture = 1 << 30

// capture writes the frames that the guest sends and receives. A large segment is
// one packet, as the guest has it; a checksum that was left to the device is
// complete.
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

// completed completes the checksum of a whole frame as its sender left it to the
// device, if it did.
func (o offload) completed() func(frame []byte) {
	if !o.needsSum() {
		return nil
	}
	return func(frame []byte) { complete(frame, o.sumStart(), o.sumOffset()) }
}
