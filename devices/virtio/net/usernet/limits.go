package usernet

import (
	"context"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Limits on the host's resources that one NIC may use.
const (
	maxConns    = 512     // TCP connections in both directions
	maxConnsWay = 384     // TCP connections in one direction
	maxPending  = 256     // TCP connections being established to the outside
	maxFlows    = 512     // UDP flows in both directions
	maxPings    = 64      // unanswered ICMP echoes
	maxQueries  = 256     // unanswered DNS queries
	maxBacklog  = 4 << 20 // bytes that wait for receive buffers of the guest, not counting those of TCP connections
	maxBatch    = 64      // chains taken from the guest at a time
	maxBatchLen = 256 << 10

	dialTimeout  = 30 * time.Second
	queryTimeout = 10 * time.Second
	flowTimeout  = 90 * time.Second // a UDP flow without traffic
	pingTimeout  = 5 * time.Second
	sweepEvery   = 5 * time.Second
	pieceSize    = 64 << 10 // one datagram from a host socket
	// One read from a host socket, which becomes one segment: the stack's limit is maxGSO - 160.
	segmentSize  = 45 * 1448
	maxSocketBuf = 1 << 20
	minSocketBuf = 16 << 10
	// Unacknowledged bytes of a connection: whole segments, because part of a segment would become
	// a separate packet. More is not faster.
	maxInFlight  = 8 * segmentSize
	bufferBudget = 32 << 20 // bytes for all connections in both directions, in addition to minSocketBuf each
)

// All data sent by connections may wait for receive buffers: a segment dropped here would be
// retransmitted only after 0.2 s if it is the last one. The waiting data is in the connections'
// socket buffers; it needs additional memory only if a connection ends before its data is
// delivered. When the number of waiting bytes exceeds pressure, reads from the host's sockets stop
// until the number has fallen to half of pressure.
const (
	maxSending    = bufferBudget/2 + maxConns*minSocketBuf + 4<<20
	frameOverhead = 512
	pressure      = 1 << 20
)

// maxMemory limits the memory of one NIC, whatever its guest and its peers do. It covers the
// buffers above, the buffers of datagram flows and of fragments in the stack, and the other memory
// of connections. The abuse tests verify it.
const maxMemory = 96 << 20

// bufferSizes shares bufferBudget among connections: the first connections get maxSocketBuf, later
// ones get less.
type bufferSizes struct {
	mu   sync.Mutex
	used int
}

// take reserves two buffers for one more connection and returns the size of each. The caller passes
// this size to give later.
func (b *bufferSizes) take() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	size := min(max((bufferBudget-b.used)/16, minSocketBuf), maxSocketBuf)
	b.used += 2 * size
	return size
}

func (b *bufferSizes) give(size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= 2 * size
}

// attempts are operations that wait for a remote answer: connections being established, DNS
// queries, echoes. At the limit, a new attempt replaces the oldest one, which is the least likely
// to succeed, so destinations that never answer do not keep the guest from connecting elsewhere. A
// flood to one destination affects only that destination, because each destination may have at most
// a quarter of the attempts.
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

// syns stores the guest's latest SYNs: an ICMP error must quote the SYN that it answers, and the
// stack keeps no SYNs.
type syns struct {
	mu   sync.Mutex
	all  map[stack.TransportEndpointID][]byte
	ring [2 * maxPending]stack.TransportEndpointID // keys of all stored SYNs; the oldest is at index next
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
