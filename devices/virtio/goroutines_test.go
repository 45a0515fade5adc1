package virtio_test

import (
	"context"
	"errors"
	"testing"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/virtiotest"
)

// poster calls Failed and ConfigChanged from a goroutine that Reset joins.
type poster struct{ *virtiotest.Recorder }

func (p poster) Activate(a virtio.Activation) error {
	for _, post := range []func(){a.ConfigChanged, func() { a.Failed(errors.New("again")) }} {
		a.Go(func(ctx context.Context) error {
			for ctx.Err() == nil {
				post()
			}
			post()
			return errors.New("stopped")
		})
	}
	return p.Recorder.Activate(a)
}

func TestResetJoinsAGoroutineThatPosts(t *testing.T) {
	f, err := virtio.NewFrontend(poster{recorder()}, memory(t), virtio.Options{Name: "test0"})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Frontend: f}
	for range 100 {
		b.negotiate(virtio.FeatureVersion1)
		b.enable(goodQueue(0))
		b.status(live)
		b.status(0)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// worker is a device with one goroutine.
type worker struct {
	*virtiotest.Recorder
	run func(context.Context) error
}

func (w worker) Activate(a virtio.Activation) error {
	a.Go(w.run)
	return w.Recorder.Activate(a)
}

func TestAGoroutineThatFailsEndsTheActivation(t *testing.T) {
	for name, run := range map[string]func(context.Context) error{
		"error": func(context.Context) error { return errors.New("out of order") },
		"panic": func(context.Context) error { panic("out of order") },
	} {
		t.Run(name, func(t *testing.T) {
			d := virtiotest.NewDriver(t, worker{recorder(), run})
			d.Negotiate(0)
			d.Go()
			if err := d.WaitNeedsReset(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A goroutine that waits for one that panicked never exits. The driver must be notified at once, a
// reset must not hang, and no driver may get the device while the goroutine may still use it.
func TestAGoroutineThatHangsAfterAPanicKeepsTheDevice(t *testing.T) {
	hang := make(chan struct{})
	w := worker{recorder(), func(context.Context) error { <-hang; return nil }}
	f, err := virtio.NewFrontend(w, memory(t), virtio.Options{Name: "test0"})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{Frontend: f, dev: w.Recorder}
	b.negotiate(virtio.FeatureVersion1)
	b.enable(goodQueue(0))
	b.status(live)
	b.dev.Activations()[0].Go(func(context.Context) error { panic("out of order") })
	if err := f.Reset(); err == nil {
		t.Error("a goroutine is left, but reset returned no error")
	}
	if got := b.negotiate(virtio.FeatureVersion1); got != ack|driver {
		t.Errorf("status %#x: another driver could use the device", got)
	}
	close(hang)
	if got := b.negotiate(virtio.FeatureVersion1); got != ready {
		t.Errorf("status %#x after it has exited", got)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
