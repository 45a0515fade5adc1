package usernet

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// What is armed is done once, a delay later, and not at all after the end.
func TestLater(t *testing.T) {
	for range 20 { // which of two that are ready is taken first is chance
		synctest.Test(t, func(t *testing.T) {
			var done atomic.Int32
			l := newLater(func() { done.Add(1) })
			ctx, cancel := context.WithCancel(t.Context())
			go l.run(ctx)
			for want := range int32(3) {
				l.arm()
				l.arm()
				synctest.Wait()
				if done.Load() != want {
					t.Fatalf("done %d times before the delay has passed, want %d", done.Load(), want)
				}
				time.Sleep(2 * delay)
				if synctest.Wait(); done.Load() != want+1 {
					t.Fatalf("done %d times, want %d", done.Load(), want+1)
				}
			}
			cancel()
			synctest.Wait()

			l.arm()
			time.Sleep(2 * delay)
			l.run(ctx)
			if done.Load() != 3 {
				t.Fatalf("done %d times, after the end too", done.Load())
			}
		})
	}
}
