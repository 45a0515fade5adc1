package usernet

// Counters say what a network does for its guest now, and what it sent in vain since the guest's driver started the device.
// Nothing between the stack and the guest loses a segment that has room, so what is sent again says
// that the guest takes nothing for a while, or dropped something.
type Counters struct {
	Connections int    // of TCP, whoever began them: up to 512
	Flows       int    // of datagrams: up to 512
	Segments    uint64 // of TCP, sent to the guest; one may have 64 KiB
	SentAgain   uint64 // segments of these that the guest did not acknowledge in time
}

// Counters are zero while no driver uses the device. Any goroutine may ask.
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
