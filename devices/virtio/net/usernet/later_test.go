package usernet

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// do is called once, a delay after arm, and not at all after the end of run.
func TestLater(t *testing.T) {
	for range 20 { // select chooses randomly if both cases are ready
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
					t.Fatalf("do was called %d times before the delay, want %d", done.Load(), want)
				}
				time.Sleep(2 * delay)
				if synctest.Wait(); done.Load() != want+1 {
					t.Fatalf("do was called %d times, want %d", done.Load(), want+1)
				}
			}
			cancel()
			synctest.Wait()

			l.arm()
			time.Sleep(2 * delay)
			l.run(ctx)
			if done.Load() != 3 {
				t.Fatalf("do was called %d times, also after the end of run", done.Load())
			}
		})
	}
}
