package usernet

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// flow is datagrams between two addresses.
type flow struct {
	began   *net.UDPConn // the published port whose client began it; nil: the guest
	last    atomic.Int64 // Unix nanoseconds of the last datagram
	timeout time.Duration
	close   func() // ends both directions; may be called again
}

func (f *flow) touch() { f.last.Store(time.Now().UnixNano()) }

// flows are all of a session. One too many takes the place of the one that was
// idle longest among those of whoever has most: the guest, or the clients of one
// of the published ports. So a flood through one of them ends no flow of another
// that has less than its share.
type flows struct {
	mu  sync.Mutex
	all map[*flow]struct{}
	of  map[*net.UDPConn]int // how many each has; never 0
}

func newFlows() *flows { return &flows{all: map[*flow]struct{}{}, of: map[*net.UDPConn]int{}} }

func (s *flows) add(f *flow) {
	f.touch()
	s.mu.Lock()
	s.of[f.began]++
	var out *flow
	if len(s.all) >= maxFlows {
		most := s.most(f.began)
		// With f alone the newcomer has most where nobody has more than one.
		all := most == f.began && s.of[most] == 1
		out = s.oldest(func(g *flow) bool { return all || g.began == most })
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

// most is who has most flows: the newcomer, if nobody has more.
func (s *flows) most(newcomer *net.UDPConn) *net.UDPConn {
	who := newcomer
	for w, n := range s.of {
		if n > s.of[who] {
			who = w
		}
	}
	return who
}

// oldest is the flow that was idle longest of those that may go.
func (s *flows) oldest(mayGo func(*flow) bool) (oldest *flow) {
	for f := range s.all {
		if mayGo(f) && (oldest == nil || f.last.Load() < oldest.last.Load()) {
			oldest = f
		}
	}
	return oldest
}

// drop forgets a flow, if it is there.
func (s *flows) drop(f *flow) {
	if _, ok := s.all[f]; !ok {
		return
	}
	delete(s.all, f)
	if s.of[f.began]--; s.of[f.began] == 0 {
		delete(s.of, f.began)
	}
}

func (s *flows) remove(f *flow) {
	s.mu.Lock()
	s.drop(f)
	s.mu.Unlock()
	f.close()
}

// expire ends the flows that had no traffic for their timeout.
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
