// Package task manages goroutines: it starts them, reports their failures to their owner, and waits
// for them. A panic in a goroutine becomes an error for its owner and does not crash the process.
package task

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// PanicError is a recovered panic: a bug in this program.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("bug in minivmm: %v\n%s", e.Value, e.Stack) }

// Catch, when deferred, recovers a panic, passes it to failed as a [PanicError], and lets the
// function return.
func Catch(failed func(error)) {
	if v := recover(); v != nil {
		failed(&PanicError{v, debug.Stack()})
	}
}

// Group is a group of goroutines that stop together. All methods are safe for concurrent use.
type Group struct {
	ctx      context.Context
	cancel   context.CancelFunc
	failed   func(error)
	panicked context.Context // canceled by the first panic
	panic    context.CancelFunc
	running  atomic.Int64 // number of goroutines, plus one until Stop
	stopped  atomic.Bool
	ended    chan struct{}
}

// New creates a Group that reports failures to failed. Several goroutines may call failed, also at
// the same time. failed decides whether a failure stops the other goroutines: it may call Cancel,
// but not Stop. The caller must call Stop.
func New(failed func(error)) *Group {
	g := &Group{failed: failed, ended: make(chan struct{})}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.panicked, g.panic = context.WithCancel(context.Background())
	g.running.Store(1)
	return g
}

// Go runs f in a goroutine with the Group's context, which all goroutines share. f must return soon
// after the context is canceled. An error or panic of f is passed to Fail. Go returns false without
// running f once Stop was called and every goroutine has returned.
func (g *Group) Go(f func(context.Context) error) bool {
	for n := g.running.Load(); n > 0; n = g.running.Load() {
		if g.running.CompareAndSwap(n, n+1) {
			go g.run(f)
			return true
		}
	}
	return false
}

func (g *Group) run(f func(context.Context) error) {
	defer g.leave()
	defer Catch(g.Fail)
	if err := f(g.ctx); err != nil {
		g.Fail(err)
	}
}

func (g *Group) leave() {
	if g.running.Add(-1) == 0 {
		close(g.ended)
	}
}

// Fail reports err as if a goroutine of the Group had returned it. After Cancel only panics are
// reported, because goroutines are then expected to return errors.
func (g *Group) Fail(err error) {
	var bug *PanicError
	if errors.As(err, &bug) {
		g.panic()
	} else if g.ctx.Err() != nil {
		return
	}
	g.failed(err)
}

// Context returns the context that Go passes to its goroutines.
func (g *Group) Context() context.Context { return g.ctx }

// Cancel cancels the context and does not wait for goroutines.
func (g *Group) Cancel() { g.cancel() }

// afterPanic is how long Stop waits after a panic: the goroutine that panicked may hold a lock, or
// may never send on a channel, that another goroutine waits for.
const afterPanic = 2 * time.Second

// Stop cancels the context and waits for all goroutines. It returns an error only if a goroutine
// panics and others are still running two seconds later. Stop may then be called again to wait for
// them.
func (g *Group) Stop() error {
	g.cancel()
	if !g.stopped.Swap(true) {
		g.leave()
	}
	select {
	case <-g.ended:
		return nil
	case <-g.panicked.Done():
	}
	select {
	case <-g.ended:
		return nil
	case <-time.After(afterPanic):
		return fmt.Errorf("%d goroutines are still running %v after a panic", g.running.Load(), afterPanic)
	}
}
