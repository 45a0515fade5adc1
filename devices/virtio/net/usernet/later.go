package usernet

import (
	"context"
	"sync/atomic"
	"time"
)

// later calls do once, a short time after it was armed. It is for work that a likely event will
// make unnecessary.
type later struct {
	do    func()
	timer *time.Timer
	armed atomic.Bool
}

// delay is the maximum time for which anything is held back.
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

// run makes all calls, until ctx ends. It is one long-lived goroutine because the stack of a new
// goroutine would have to grow each time.
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
