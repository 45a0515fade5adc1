package usernet

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// acks keeps back an acknowledgement of less than a full packet, for ackDelay at
// most (RFC 1122 §4.2.3.2): mostly an answer follows that carries it, and the
// guest is interrupted once instead of twice. The stack itself acknowledges
// everything at once.
type acks struct {
	mtu   uint32
	flush func(*stack.PacketBuffer) // sends one that was kept for long enough
	guard func(func())              // runs the timer's function

	mu     sync.Mutex
	flows  [ackFlows]ackFlow // by the stack's hash; who comes later takes the place
	timer  *time.Timer
	armed  bool // the timer runs
	closed bool
}

// ackFlow is one direction of a connection.
type ackFlow struct {
	key  uint64 // hash and ports
	sent uint32 // the last acknowledgement that the guest got
	kept *stack.PacketBuffer
}

const (
	ackFlows = 256
	ackDelay = time.Millisecond
)

// ackHeaderMax is the size of a header with time stamps and no SACK blocks.
const ackHeaderMax = header.TCPMinimumSize + 12

// keep says whether pkt is not to be sent now. What was kept of its connection is
// dropped: pkt acknowledges as much or more.
func (a *acks) keep(pkt *stack.PacketBuffer) bool {
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return false
	}
	h := header.TCP(pkt.TransportHeader().Slice())
	if len(h) < header.TCPMinimumSize {
		return false
	}
	key := uint64(pkt.Hash)<<32 | uint64(h.SourcePort())<<16 | uint64(h.DestinationPort())
	ack := h.AckNumber()
	bare := h.Flags() == header.TCPFlagAck && len(h) <= ackHeaderMax && pkt.Data().Size() == 0

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	f := &a.flows[pkt.Hash%ackFlows]
	known := f.key == key
	if f.kept != nil {
		if !known {
			a.flush(f.kept)
		}
		f.kept.DecRef()
		f.kept = nil
	}
	if more := ack - f.sent; known && bare && more > 0 && more < a.mtu {
		f.kept = pkt.Clone()
		a.arm()
		return true
	}
	f.key, f.sent = key, ack
	return false
}

// arm starts the timer. a.mu is held.
func (a *acks) arm() {
	switch {
	case a.armed, a.closed:
		return
	case a.timer == nil:
		a.timer = time.AfterFunc(ackDelay, func() { a.guard(a.sendKept) })
	default:
		a.timer.Reset(ackDelay)
	}
	a.armed = true
}

// sendKept sends all that is kept.
func (a *acks) sendKept() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.armed = false
	for i := range a.flows {
		f := &a.flows[i]
		if f.kept != nil {
			f.sent = header.TCP(f.kept.TransportHeader().Slice()).AckNumber()
			a.flush(f.kept)
			f.kept.DecRef()
			f.kept = nil
		}
	}
}

// close drops what is kept.
func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	for i := range a.flows {
		if f := &a.flows[i]; f.kept != nil {
			f.kept.DecRef()
			f.kept = nil
		}
	}
}
