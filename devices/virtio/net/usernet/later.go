package usernet

import (
	"context"
	"sync/atomic"
	"time"
)

// later runs do once, a moment after it was armed: for what an event that is
// likely to come makes superfluous.
type later struct {
	do    func()
	timer *time.Timer
	armed atomic.Bool
}

// moment is the longest that anything is kept back for.
const moment = 2 * time.Millisecond

func newLater(do func()) *later {
	l := &later{do: do, timer: time.NewTimer(moment)}
	l.timer.Stop()
	return l
}

// arm makes run call do in a moment, if it is not going to already.
func (l *later) arm() {
	if l.armed.CompareAndSwap(false, true) {
		l.timer.Reset(moment)
	}
}

// run is one goroutine for all calls, until ctx ends: the stack of a new one would
// grow each time.
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
