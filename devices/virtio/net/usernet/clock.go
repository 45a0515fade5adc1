package usernet

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// clock is the stack's: its timers run in goroutines that the session guards.
type clock struct {
	tcpip.Clock
	guard func(func())
}

// AfterFunc is tcpip.Clock's.
func (c clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return c.Clock.AfterFunc(d, func() { c.guard(f) })
}
