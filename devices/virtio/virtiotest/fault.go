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
	nth     int             // index of the goroutine that fails; too high an index: none fails
	tripped context.Context // when this context is done, the goroutine fails
	fail    func() error    // how the goroutine fails: it panics or returns an error

	count int // number of goroutines that the last Activate started
}

func (f *faulty) Activate(a virtio.Activation) error {
	var started atomic.Int32
	var active atomic.Bool
	start, tripped, fail, nth := a.Go, f.tripped, f.fail, f.nth
	a.Go = func(run func(context.Context) error) bool {
		if active.Load() || int(started.Add(1))-1 != nth {
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
	f.count = int(started.Load())
	return err
}

// trap is a context that makes a goroutine fail when it checks whether to stop.
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

var errInjected = errors.New("injected error")

// faultInEach makes each goroutine of a device fail, once with an error and once with a panic.
// After each failure the driver must be notified, a reset must stop all goroutines, and the device
// must work again.
func faultInEach(t *testing.T, open func(t testing.TB) virtio.Device, s Suite) {
	f := &faulty{Device: open(t)}
	d := NewDriver(t, f)
	atRest := TakeFootprint(t)
	for f.nth = 0; ; f.nth++ {
		for _, fail := range []func() error{func() error { return errInjected }, func() error { panic("injected panic") }} {
			var trip context.CancelFunc
			f.tripped, trip = context.WithCancel(t.Context())
			f.fail = fail
			d.Start(all)
			s.Traffic(t, d)
			trip()
			if f.nth >= f.count {
				if f.nth == 0 {
					t.Error("the device started no goroutine with Activation.Go")
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
