package usernet

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// acks keeps back an acknowledgement of less than a full packet, for a moment at
// most (RFC 1122 §4.2.3.2): mostly an answer follows that carries it, and the
// guest is interrupted once instead of twice. The stack itself acknowledges
// everything at once.
type acks struct {
	mtu   uint32
	flush func(*stack.PacketBuffer) // sends one that was kept for long enough
	arm   func()                    // has sendKept called in a moment

	mu     sync.Mutex
	flows  [ackFlows]ackFlow // by the stack's hash; who comes later takes the place
	kept   int               // of flows have one
	closed bool
}

// ackFlow is one direction of a connection.
type ackFlow struct {
	key  uint64 // hash and ports
	sent uint32 // the last acknowledgement that the guest got
	kept *stack.PacketBuffer
}

const ackFlows = 256

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
		a.drop(f)
	}
	if more := ack - f.sent; known && bare && more > 0 && more < a.mtu {
		f.kept = pkt.IncRef()
		a.kept++
		a.arm()
		return true
	}
	f.key, f.sent = key, ack
	return false
}

func (a *acks) drop(f *ackFlow) {
	f.kept.DecRef()
	f.kept = nil
	a.kept--
}

// sendKept sends all that is kept.
func (a *acks) sendKept() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.each(func(f *ackFlow) {
		f.sent = header.TCP(f.kept.TransportHeader().Slice()).AckNumber()
		a.flush(f.kept)
	})
}

// each drops what is kept, after do. a.mu is held.
func (a *acks) each(do func(*ackFlow)) {
	for i := 0; a.kept > 0 && i < ackFlows; i++ {
		if f := &a.flows[i]; f.kept != nil {
			do(f)
			a.drop(f)
		}
	}
}

// close drops what is kept.
func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.each(func(*ackFlow) {})
}
