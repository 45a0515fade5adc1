package virtiotest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"minivmm/devices/virtio"
)

// faulty is a device in which one of the goroutines that Activate starts fails.
type faulty struct {
	virtio.Device
	nth     int             // which one; none if there is no such
	tripped context.Context // when
	fail    func() error    // how: it panics or returns an error

	count int // goroutines that the last Activate started
}

func (f *faulty) Activate(a virtio.Activation) error {
	var begun atomic.Int32
	var active atomic.Bool
	start, tripped, fail, nth := a.Go, f.tripped, f.fail, f.nth
	a.Go = func(run func(context.Context) error) bool {
		if active.Load() || int(begun.Add(1))-1 != nth {
			return start(run)
		}
		return start(func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer context.AfterFunc(tripped, cancel)()
			if err := run(trap{ctx, fail}); err != nil {
				return err
			}
			return fail()
		})
	}
	err := f.Device.Activate(a)
	active.Store(true)
	f.count = int(begun.Load())
	return err
}

// trap is a context in which a goroutine fails where it learns that it is to end.
type trap struct {
	context.Context
	fail func() error
}

func (c trap) Err() error {
	if c.Context.Err() == nil {
		return nil
	}
	return c.fail()
}

var errInjected = errors.New("error on purpose")

// faultInEach has each goroutine of a device fail in both ways. Every time the
// driver hears of it, a reset ends all goroutines, and the device works again.
func faultInEach(t *testing.T, open func(t testing.TB) virtio.Device, s Suite) {
	f := &faulty{Device: open(t)}
	d := NewDriver(t, f)
	atRest := TakeFootprint(t)
	for f.nth = 0; ; f.nth++ {
		for _, fail := range []func() error{func() error { return errInjected }, func() error { panic("panic on purpose") }} {
			var trip context.CancelFunc
			f.tripped, trip = context.WithCancel(t.Context())
			f.fail = fail
			d.Start(all)
			s.Traffic(t, d)
			trip()
			if f.nth >= f.count {
				if f.nth == 0 {
					t.Error("the device has no goroutine of Activation.Go")
				}
				return
			}
			if err := d.WaitNeedsReset(); err != nil {
				t.Errorf("goroutine %d: %v", f.nth, err)
			}
			d.Reset()
			atRest.Holds(t)
		}
	}
}
