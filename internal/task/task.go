// Package task owns goroutines: who starts them, who hears how they failed, and who waits for
// them. A panic in one becomes an error for its owner and never ends the process.
package task

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// PanicError is a panic that was caught: a bug in this program.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("bug in minivmm: %v\n%s", e.Value, e.Stack) }

// Catch, when deferred, gives a panic to failed as a [PanicError] and lets the function return.
func Catch(failed func(error)) {
	if v := recover(); v != nil {
		failed(&PanicError{v, debug.Stack()})
	}
}

// Group owns goroutines that end together. All methods are safe for concurrent use.
type Group struct {
	ctx      context.Context
	cancel   context.CancelFunc
	failed   func(error)
	panicked context.Context // ends with the first panic
	panic    context.CancelFunc
	running  atomic.Int64 // goroutines, and one more until Stop
	stopped  atomic.Bool
	ended    chan struct{}
}

// New makes a Group that reports to failed, from any goroutine and any number of times. Whether a
// failure ends the other goroutines is for failed to say: it may call Cancel, but not Stop. The
// caller calls Stop.
func New(failed func(error)) *Group {
	g := &Group{failed: failed, ended: make(chan struct{})}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.panicked, g.panic = context.WithCancel(context.Background())
	g.running.Store(1)
	return g
}

// Go runs f in a goroutine with the Group's context, which is the same for all. f must return
// soon after the context ends. Its error goes to Fail, and so does a panic. Go returns false, and
// f does not run, once every goroutine has ended after Stop.
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

// Fail reports err as if a goroutine of the Group had returned it. After Cancel only a panic is
// reported: other errors are how a goroutine ends.
func (g *Group) Fail(err error) {
	var bug *PanicError
	if errors.As(err, &bug) {
		g.panic()
	} else if g.ctx.Err() != nil {
		return
	}
	g.failed(err)
}

// Context is the context that Go gives to its goroutines.
func (g *Group) Context() context.Context { return g.ctx }

// Cancel ends the context, and waits for nobody.
func (g *Group) Cancel() { g.cancel() }

// afterPanic is how long Stop waits once there was a panic: what panicked may have left a lock
// held or a channel empty that another goroutine waits for.
const afterPanic = 2 * time.Second

// Stop ends the context and waits for all goroutines. It returns an error only after a panic,
// when goroutines are still running after two seconds; it may be called again to wait for these.
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
		return fmt.Errorf("%d goroutines have not ended %v after a panic", g.running.Load(), afterPanic)
	}
}
