package usernet

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// acks delays acknowledgments of less than a full packet, for at most the time of [later] (RFC 1122
// §4.2.3.2). In most cases an answer follows that also carries the acknowledgment, and the guest
// gets one interrupt instead of two. The stack itself acknowledges everything immediately.
type acks struct {
	mtu   uint32
	flush func(*stack.PacketBuffer) // sends a delayed acknowledgment
	arm   func()                    // schedules a call of sendKept

	mu     sync.Mutex
	flows  [ackFlows]ackFlow // indexed by the stack's hash; a later flow replaces an earlier one
	kept   int               // number of flows with a delayed acknowledgment
	closed bool
}

// ackFlow is one direction of a connection.
type ackFlow struct {
	key  uint64 // hash and ports
	sent uint32 // the last acknowledgment sent to the guest
	kept *stack.PacketBuffer
}

const ackFlows = 256

// ackHeaderMax is the size of a TCP header with timestamps and without SACK blocks.
const ackHeaderMax = header.TCPMinimumSize + 12

// keep reports whether it delayed pkt; otherwise the caller must send it now. It drops an earlier
// delayed acknowledgment of the same connection, because pkt acknowledges at least as much.
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

// sendKept sends all delayed acknowledgments.
func (a *acks) sendKept() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.each(func(f *ackFlow) {
		f.sent = header.TCP(f.kept.TransportHeader().Slice()).AckNumber()
		a.flush(f.kept)
	})
}

// each calls do for every delayed acknowledgment and drops it. a.mu must be held.
func (a *acks) each(do func(*ackFlow)) {
	for i := 0; a.kept > 0 && i < ackFlows; i++ {
		if f := &a.flows[i]; f.kept != nil {
			do(f)
			a.drop(f)
		}
	}
}

// close drops all delayed acknowledgments. Afterwards keep delays nothing.
func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.each(func(*ackFlow) {})
}

// later calls do a short time after arm was called. do is work that other events usually make
// unnecessary in the meantime.
type later struct {
	do    func()
	timer *time.Timer
	armed atomic.Bool
}

// delay is the time from arm to do, and so the maximum time for which anything is held back.
const delay = 2 * time.Millisecond

func newLater(do func()) *later {
	l := &later{do: do, timer: time.NewTimer(delay)}
	l.timer.Stop()
	return l
}

// arm schedules a call of do after delay, unless one is already scheduled.
func (l *later) arm() {
	if l.armed.CompareAndSwap(false, true) {
		l.timer.Reset(delay)
	}
}

// run makes all calls of do until ctx is done. It is one long-lived goroutine because the stack of
// a new goroutine would have to grow each time.
func (l *later) run(ctx context.Context) error {
	for {
		select {
		case <-l.timer.C:
			if ctx.Err() != nil { // both were ready
				return nil
			}
			l.armed.Store(false)
			l.do()
		case <-ctx.Done():
			return nil
		}
	}
}
