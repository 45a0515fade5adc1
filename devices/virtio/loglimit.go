package virtio

import (
	"fmt"
	"sync"
	"time"
)

// logLimit limits how many lines are logged in a minute, so that a guest cannot fill the log. The
// next line that is logged says how many lines were dropped.
type logLimit struct {
	logf func(format string, args ...any)

	mu      sync.Mutex
	since   time.Time
	lines   int
	dropped int
}

const logBurst = 10 // lines a minute

func (l *logLimit) printf(format string, args ...any) {
	if l.logf == nil {
		return
	}
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.since) >= time.Minute {
		l.since, l.lines = now, 0
	}
	if l.lines == logBurst {
		l.dropped++
		l.mu.Unlock()
		return
	}
	l.lines++
	dropped := l.dropped
	l.dropped = 0
	l.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	if dropped > 0 {
		line += fmt.Sprintf(" (%d more lines like this were dropped)", dropped)
	}
	l.logf("%s", line)
}
