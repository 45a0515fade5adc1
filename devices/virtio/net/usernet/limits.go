package usernet

import (
	"sync"
	"time"
)

// Limits on what one NIC may use of the host.
const (
	maxConns    = 512     // TCP connections in both directions
	maxConnsWay = 384     // TCP connections in one direction
	maxPending  = 256     // TCP connections being established to the outside
	maxFlows    = 512     // UDP flows in both directions
	maxPings    = 64      // unanswered ICMP echoes
	maxQueries  = 256     // unanswered DNS queries
	maxBacklog  = 4 << 20 // bytes that wait for receive buffers of the guest, not counting TCP connections
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
	// Unacknowledged bytes of a connection. More is not faster, and part of a segment would become
	// a packet of its own.
	maxInFlight  = 8 * segmentSize
	bufferBudget = 32 << 20 // bytes for all connections in both directions, in addition to minSocketBuf each
)

// All data sent by connections may wait for receive buffers: a segment dropped here would be
// retransmitted only after 0.2 s if it is the last one. It is the same memory as the connections'
// socket buffers, and is additional only when a connection ends earlier. Above pressure bytes,
// nothing more is read from the host's sockets until only half of that is waiting.
const (
	maxSending    = bufferBudget/2 + maxConns*minSocketBuf + 4<<20
	frameOverhead = 512
	pressure      = 1 << 20
)

// maxMemory limits the memory of one NIC, whatever its guest and its peers do: the buffers above,
// those of datagram flows and of fragments in the stack, and what connections need besides. The
// abuse tests verify it.
const maxMemory = 96 << 20

// bufferSizes shares bufferBudget among connections: the first get maxSocketBuf, later ones less.
type bufferSizes struct {
	mu   sync.Mutex
	used int
}

// take reserves two buffers for one more connection, and returns the size of each for give.
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
