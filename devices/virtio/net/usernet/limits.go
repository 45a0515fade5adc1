package usernet

import "time"

// What one NIC may take of the host.
const (
	maxConns    = 512     // TCP connections, both ways
	maxPending  = 256     // TCP connections that are being made to the outside
	maxFlows    = 512     // UDP flows, both ways
	maxPings    = 32      // ICMP echoes without an answer yet
	maxBacklog  = 4 << 20 // bytes that wait for receive buffers of the guest
	maxBatch    = 64      // chains taken from the guest before they are worked on
	maxBatchLen = 256 << 10

	dialTimeout  = 30 * time.Second
	flowTimeout  = 90 * time.Second // a UDP flow without traffic
	pingTimeout  = 5 * time.Second
	sweepEvery   = 5 * time.Second
	pieceSize    = 64 << 10  // one datagram from a host socket
	segmentSize  = 45 * 1448 // one read from a host socket, which becomes one segment: the stack makes none larger than maxGSO less 160
	maxSocketBuf = 1 << 20
	minSocketBuf = 32 << 10
	bufferBudget = 8 << 20 // of each direction, shared by connections until minSocketBuf
)

// socketBuf is the size of both buffers of a connection that is the nth.
func socketBuf(n int) int {
	return min(maxSocketBuf, max(minSocketBuf, bufferBudget/max(1, n)))
}
