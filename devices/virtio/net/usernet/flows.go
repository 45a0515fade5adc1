package usernet

import (
	"sync"
	"sync/atomic"
	"time"
)

// flow is datagrams between two addresses.
type flow struct {
	last    atomic.Int64 // Unix nanoseconds of the last datagram
	timeout time.Duration
	close   func() // ends both directions; may be called again
}

func (f *flow) touch() { f.last.Store(time.Now().UnixNano()) }

// flows are all of a session. One too many takes the place of the one that was
// idle longest.
type flows struct {
	mu  sync.Mutex
	all map[*flow]struct{}
}

func newFlows() *flows { return &flows{all: map[*flow]struct{}{}} }

func (s *flows) add(f *flow) {
	f.touch()
	s.mu.Lock()
	var oldest *flow
	if len(s.all) >= maxFlows {
		for g := range s.all {
			if oldest == nil || g.last.Load() < oldest.last.Load() {
				oldest = g
			}
		}
		delete(s.all, oldest)
	}
	s.all[f] = struct{}{}
	s.mu.Unlock()
	if oldest != nil {
		oldest.close()
	}
}

func (s *flows) remove(f *flow) {
	s.mu.Lock()
	delete(s.all, f)
	s.mu.Unlock()
	f.close()
}

// expire ends the flows that had no traffic for their timeout.
func (s *flows) expire(now time.Time) {
	s.mu.Lock()
	var idle []*flow
	for f := range s.all {
		if now.UnixNano()-f.last.Load() > int64(f.timeout) {
			delete(s.all, f)
			idle = append(idle, f)
		}
	}
	s.mu.Unlock()
	for _, f := range idle {
		f.close()
	}
}
