package usernet

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// clock is the stack's: its timers run in goroutines that the session guards. The
// stack asks for the time a dozen times for each packet.
type clock struct {
	tcpip.Clock
	start time.Time
	guard func(func())
}

// NowMonotonic is tcpip.Clock's.
func (c *clock) NowMonotonic() tcpip.MonotonicTime { return monotonic(time.Since(c.start)) }

// AfterFunc is tcpip.Clock's.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return c.Clock.AfterFunc(d, func() { c.guard(f) })
}
