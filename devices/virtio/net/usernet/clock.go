package usernet

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// clock is the stack's clock. Its timers run in goroutines that the session guards against panics.
// NowMonotonic is optimized because the stack reads the time a dozen times for each packet.
type clock struct {
	tcpip.Clock
	start time.Time
	guard func(func())
}

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime { return monotonic(time.Since(c.start)) }

// AfterFunc implements tcpip.Clock.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return c.Clock.AfterFunc(d, func() { c.guard(f) })
}
