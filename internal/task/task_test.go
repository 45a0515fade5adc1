package task

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestAnErrorAndAPanicReachTheOwner(t *testing.T) {
	failures := make(chan error, 8)
	g := New(func(err error) { failures <- err })
	bad := errors.New("bad ring")
	g.Go(func(context.Context) error { return bad })
	if err := <-failures; err != bad {
		t.Errorf("error %v", err)
	}
	g.Go(func(context.Context) error { panic("index out of range") })
	var bug *PanicError
	if err := <-failures; !errors.As(err, &bug) || !strings.Contains(err.Error(), "index out of range\n") {
		t.Errorf("panic %v", err)
	}
	if g.Context().Err() != nil {
		t.Error("a failure canceled the context, which only the owner may do")
	}
	g.Go(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
	g.Cancel()
	g.Fail(bad)
	if err := g.Stop(); err != nil {
		t.Error(err)
	}
	if len(failures) != 0 {
		t.Errorf("reported after Cancel: %v", <-failures)
	}
}

func TestStopWaitsForAllGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 200 {
		g := New(func(err error) { t.Error(err) })
		var begun func(depth int) func(context.Context) error
		begun = func(depth int) func(context.Context) error {
			return func(ctx context.Context) error {
				if depth > 0 {
					g.Go(begun(depth - 1))
				}
				<-ctx.Done()
				g.Go(func(context.Context) error { return nil })
				return nil
			}
		}
		go g.Go(begun(3))
		g.Go(begun(3))
		if err := errors.Join(g.Stop(), g.Stop()); err != nil {
			t.Fatal(err)
		}
		if n := g.running.Load(); n != 0 {
			t.Fatalf("%d goroutines after Stop", n)
		}
		if g.Go(func(context.Context) error { t.Error("started after Stop"); return nil }) {
			t.Fatal("Go after Stop returned true")
		}
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// A goroutine that waits for one that panicked must not block Stop, even if the panic happens
// during Stop.
func TestStopDoesNotHangAfterAPanic(t *testing.T) {
	failures := make(chan error, 8)
	g := New(func(err error) { failures <- err })
	hang := make(chan struct{})
	g.Go(func(context.Context) error { <-hang; return nil })
	g.Go(func(ctx context.Context) error { <-ctx.Done(); panic("late") })
	if err := g.Stop(); err == nil {
		t.Error("Stop did not report a goroutine that hangs")
	}
	if len(failures) != 1 {
		t.Errorf("%d failures", len(failures))
	}
	close(hang)
	if err := g.Stop(); err != nil {
		t.Errorf("after it has returned: %v", err)
	}
}
