package usernet

import (
	"container/list"
	"context"
	"sync"
)

// dials are the connections that are being made. One too many takes the place of
// the oldest, which is the least likely to succeed: black holes do not keep the
// guest from connecting elsewhere.
type dials struct {
	mu  sync.Mutex
	all *list.List // of context.CancelFunc, oldest first
}

func newDials() *dials { return &dials{all: list.New()} }

// begin returns a context for one attempt, and what ends it.
func (d *dials) begin(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(parent, dialTimeout)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all.Len() >= maxPending {
		d.all.Remove(d.all.Front()).(context.CancelFunc)()
	}
	e := d.all.PushBack(cancel)
	return ctx, func() {
		cancel()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.all.Remove(e) // does nothing for one that was removed
	}
}
