package usernet

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// syns stores the guest's latest SYN packets: an ICMP error must quote the packet, and the stack
// does not keep it.
type syns struct {
	mu   sync.Mutex
	all  map[stack.TransportEndpointID][]byte
	ring [2 * maxPending]stack.TransportEndpointID // keys of all, oldest at next
	next int
}

func newSyns() *syns { return &syns{all: map[stack.TransportEndpointID][]byte{}} }

// keep stores a packet if it is a SYN.
func (s *syns) keep(id stack.TransportEndpointID, pkt *stack.PacketBuffer) {
	h := header.TCP(pkt.TransportHeader().Slice())
	if h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) != header.TCPFlagSyn {
		return
	}
	packet := append(append([]byte(nil), pkt.NetworkHeader().Slice()...), h...)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.all[id]; !again {
		delete(s.all, s.ring[s.next])
		s.ring[s.next] = id
		s.next = (s.next + 1) % len(s.ring)
	}
	s.all[id] = packet
}

// packet returns the SYN of a connection, or nil.
func (s *syns) packet(id stack.TransportEndpointID) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[id]
}
