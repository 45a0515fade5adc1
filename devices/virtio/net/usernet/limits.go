package usernet

import (
	"sync"
	"time"
)

// What one NIC may take of the host.
const (
	maxConns    = 512     // TCP connections, both ways
	maxConnsWay = 384     // of them, one way
	maxPending  = 256     // TCP connections that are being made to the outside
	maxFlows    = 512     // UDP flows, both ways
	maxPings    = 64      // ICMP echoes without an answer yet
	maxQueries  = 256     // DNS questions without an answer yet
	maxBacklog  = 4 << 20 // bytes that wait for receive buffers of the guest, without those of connections
	maxBatch    = 64      // chains taken from the guest before they are worked on
	maxBatchLen = 256 << 10

	dialTimeout  = 30 * time.Second
	queryTimeout = 10 * time.Second
	flowTimeout  = 90 * time.Second // a UDP flow without traffic
	pingTimeout  = 5 * time.Second
	sweepEvery   = 5 * time.Second
	pieceSize    = 64 << 10  // one datagram from a host socket
	segmentSize  = 45 * 1448 // one read from a host socket, which becomes one segment: the stack makes none larger than maxGSO less 160
	maxSocketBuf = 1 << 20
	minSocketBuf = 16 << 10
	maxOnTheWay  = 8 * segmentSize // bytes of a connection that the guest has not acknowledged: more is not faster, and part of a segment would be a packet of its own
	bufferBudget = 32 << 20        // of all connections, both ways, beyond minSocketBuf each
)

// What connections have sent may wait for receive buffers as well, all of it: a
// segment dropped here would be sent again only after 0.2 s, when it is the last.
// It is the memory of their socket buffers, and counts by itself only when a
// connection ends before. From pressure on nothing more is read from the host's
// sockets until half of it is with the guest.
const (
	maxSending    = bufferBudget/2 + maxConns*minSocketBuf + 4<<20
	frameOverhead = 512
	pressure      = 1 << 20
)

// maxMemory is what one NIC may hold, whatever its guest and its peers do: the
// buffers above, those of datagram flows and of fragments in the stack, and what
// connections need beside them. The tests of abuse hold it.
const maxMemory = 96 << 20

// bufferSizes shares bufferBudget among connections: the first get maxSocketBuf,
// the later ones less.
type bufferSizes struct {
	mu   sync.Mutex
	used int
}

// take is the size of the two buffers of one more connection, until give.
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
