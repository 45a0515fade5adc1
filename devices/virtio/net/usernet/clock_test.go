package usernet

import (
	"math"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

func TestMonotonicMatchesTheStack(t *testing.T) {
	for _, d := range []time.Duration{0, 1, time.Millisecond, time.Hour, math.MaxInt64} {
		if got, want := monotonic(d), (tcpip.MonotonicTime{}.Add(d)); got != want {
			t.Errorf("monotonic(%d) is %v, want %v", d, got, want)
		}
	}
}
