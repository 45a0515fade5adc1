package usernet

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// flow is a bidirectional stream of datagrams between two addresses.
type flow struct {
	origin  *net.UDPConn // the published port whose client started it; nil: the guest
	last    atomic.Int64 // Unix nanoseconds of the last datagram
	timeout time.Duration
	close   func() // ends both directions; may be called more than once
}

func (f *flow) touch() { f.last.Store(time.Now().UnixNano()) }

// flows holds all flows of a session. At the limit, a new flow replaces the flow that was idle
// longest among those of the largest owner. Owners are the guest and each published port (its
// clients). So a flood through one owner ends no flow of an owner that has less than its share.
type flows struct {
	mu  sync.Mutex
	all map[*flow]struct{}
	of  map[*net.UDPConn]int // number of flows per owner; never 0
}

func newFlows() *flows { return &flows{all: map[*flow]struct{}{}, of: map[*net.UDPConn]int{}} }

func (s *flows) add(f *flow) {
	f.touch()
	s.mu.Lock()
	s.of[f.origin]++
	var out *flow
	if len(s.all) >= maxFlows {
		most := s.most(f.origin)
		// If no owner has more than one flow, the newcomer counts as the largest with f alone.
		all := most == f.origin && s.of[most] == 1
		out = s.oldest(func(g *flow) bool { return all || g.origin == most })
		s.drop(out)
	}
	s.all[f] = struct{}{}
	s.mu.Unlock()
	if out != nil {
		out.close()
	}
}

func (s *flows) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// most returns the owner with the most flows, or the newcomer if no owner has more.
func (s *flows) most(newcomer *net.UDPConn) *net.UDPConn {
	who := newcomer
	for w, n := range s.of {
		if n > s.of[who] {
			who = w
		}
	}
	return who
}

// oldest returns the flow that was idle longest among those that mayGo accepts.
func (s *flows) oldest(mayGo func(*flow) bool) (oldest *flow) {
	for f := range s.all {
		if mayGo(f) && (oldest == nil || f.last.Load() < oldest.last.Load()) {
			oldest = f
		}
	}
	return oldest
}

// drop removes a flow from the tables if it is there. s.mu must be held.
func (s *flows) drop(f *flow) {
	if _, ok := s.all[f]; !ok {
		return
	}
	delete(s.all, f)
	if s.of[f.origin]--; s.of[f.origin] == 0 {
		delete(s.of, f.origin)
	}
}

func (s *flows) remove(f *flow) {
	s.mu.Lock()
	s.drop(f)
	s.mu.Unlock()
	f.close()
}

// expire closes the flows that were idle for longer than their timeout.
func (s *flows) expire(now time.Time) {
	s.mu.Lock()
	var idle []*flow
	for f := range s.all {
		if now.UnixNano()-f.last.Load() > int64(f.timeout) {
			s.drop(f)
			idle = append(idle, f)
		}
	}
	s.mu.Unlock()
	for _, f := range idle {
		f.close()
	}
}
