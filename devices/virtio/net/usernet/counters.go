package usernet

// Counters describe the network's load, and how often it retransmitted since the guest's driver
// started the device. Between the stack and the guest no segment is lost while there is room, so
// SentAgain increases when the guest stops reading for a while or drops segments.
type Counters struct {
	Connections int    // TCP connections from either side, up to 512
	Flows       int    // datagram flows, up to 512
	Segments    uint64 // TCP segments sent to the guest, each up to 64 KiB
	SentAgain   uint64 // retransmitted segments: the guest did not acknowledge them in time
}

// Counters returns the current counters, or zeros while no driver uses the device. It is safe for
// concurrent use.
func (b *Backend) Counters() Counters {
	s := b.live.Load()
	if s == nil {
		return Counters{}
	}
	tcp := s.stack.Stats().TCP
	return Counters{
		Connections: int(s.out.Load() + s.in.Load()), Flows: s.flows.count(),
		Segments: tcp.SegmentsSent.Value(), SentAgain: tcp.Retransmits.Value(),
	}
}
