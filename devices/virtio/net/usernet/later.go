package usernet

import (
	"sync"
	"time"
)

// later runs do once, a moment after it was armed: for what an event that is
// likely to come makes superfluous.
type later struct {
	do func() // in a goroutine of its own

	mu     sync.Mutex
	timer  *time.Timer
	armed  bool
	closed bool
}

// moment is the longest that anything is kept back for.
const moment = time.Millisecond

func (l *later) arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.armed, l.closed:
		return
	case l.timer == nil:
		l.timer = time.AfterFunc(moment, l.run)
	default:
		l.timer.Reset(moment)
	}
	l.armed = true
}

func (l *later) run() {
	l.mu.Lock()
	l.armed = false
	closed := l.closed
	l.mu.Unlock()
	if !closed {
		l.do()
	}
}

// close makes do run no more, but for one that has begun.
func (l *later) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
