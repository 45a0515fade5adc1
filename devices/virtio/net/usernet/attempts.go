package usernet

import (
	"context"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// attempts are operations that wait for a remote answer: connections being established, DNS
// queries, echoes. At the limit, a new attempt replaces the oldest one, which is the least likely
// to succeed. So destinations that never answer do not keep the guest from connecting elsewhere.
// Each destination may have a quarter of the attempts, so a flood to one destination affects only
// that destination.
type attempts[K comparable] struct {
	max     int
	timeout time.Duration

	mu  sync.Mutex
	all []*attempt[K] // oldest first
}

type attempt[K comparable] struct {
	to     K
	cancel context.CancelFunc
}

func newAttempts[K comparable](max int, timeout time.Duration) *attempts[K] {
	return &attempts[K]{max: max, timeout: timeout}
}

// begin returns a context for a new attempt, and the function that ends the attempt. The context is
// canceled when the attempt ends, times out or is replaced.
func (d *attempts[K]) begin(parent context.Context, to K) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(parent, d.timeout)
	a := &attempt[K]{to, cancel}
	d.mu.Lock()
	defer d.mu.Unlock()
	same, oldest := 0, -1
	for i, b := range d.all {
		if b.to == to {
			if same++; oldest < 0 {
				oldest = i
			}
		}
	}
	if same < max(d.max/4, 1) {
		oldest = 0
	}
	if same >= max(d.max/4, 1) || len(d.all) >= d.max {
		d.all[oldest].cancel()
		d.all = slices.Delete(d.all, oldest, oldest+1)
	}
	d.all = append(d.all, a)
	return ctx, func() {
		cancel()
		d.mu.Lock()
		defer d.mu.Unlock()
		if i := slices.Index(d.all, a); i >= 0 {
			d.all = slices.Delete(d.all, i, i+1)
		}
	}
}

// syns stores the guest's latest SYNs: an ICMP error must quote one, and the stack keeps none.
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
