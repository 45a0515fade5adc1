package virtio_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

// TestRingStates reads the state of rings that are not live, that are live, of a failed device, and
// after a reset.
func TestRingStates(t *testing.T) {
	b := newBench(t, recorder())
	look := func(when string, want ...virtio.RingState) {
		t.Helper()
		if got := b.RingStates(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, want\n%+v", when, got, want)
		}
	}
	dead := []virtio.RingState{{Index: 0, Size: 256, Counted: true, InProcess: true}, {Index: 1, Size: 64, Counted: true, InProcess: true}, {Index: 2, Size: 64, Counted: true, InProcess: true}}
	look("before", dead...)

	b.negotiate(virtio.FeatureVersion1)
	b.enable(goodQueue(0))
	b.enable(goodQueue(2))
	b.status(live)
	mem := b.dev.Activations()[0].Memory
	index := func(ring guestmem.GPA, v uint16) {
		w, err := mem.Window(ring+2, 2)
		if err != nil {
			t.Fatal(err)
		}
		guestmem.Store16(w, 0, v)
	}
	index(goodQueue(2).Driver, 3)
	index(goodQueue(2).Device, 0xfffe)
	for range 5 {
		if err := b.Kick(2).Signal(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if err := b.Call(0).Signal(); err != nil {
			t.Fatal(err)
		}
	}
	now := []virtio.RingState{{Index: 0, Size: 64, Live: true, Counted: true, Interrupts: 3, InProcess: true}, dead[1], {Index: 2, Size: 64, Live: true, Available: 3, Used: 0xfffe, Kicks: 5, Counted: true, InProcess: true}}
	look("live", now...)
	look("again", now...)

	b.status(0)
	b.dev.Kernel = true
	for i := range dead {
		dead[i].InProcess = false
	}
	look("after a reset", dead...)

	// A ring with no word in guest memory that can be read.
	b.negotiate(virtio.FeatureVersion1)
	odd := goodQueue(0)
	odd.Driver++
	b.enable(odd)
	if got := b.status(live); got&needsReset == 0 {
		t.Fatalf("status %#x with an odd ring", got)
	}
	dead[0].Size = 64
	look("not activated", dead...)
}

// TestAFailedDeviceStaysFailed makes a device fail permanently, while it runs and before it runs.
func TestAFailedDeviceStaysFailed(t *testing.T) {
	b := newBench(t, recorder())
	start := func() virtio.Status {
		b.negotiate(virtio.FeatureVersion1)
		b.enable(goodQueue(0))
		return b.status(live)
	}
	if got := start(); got != live {
		t.Fatalf("status %#x", got)
	}
	b.Fail(errors.New("its worker has exited"))
	if got := virtio.Status(b.Read(virtio.DeviceStatus)); got&needsReset == 0 || b.config == 0 {
		t.Errorf("status %#x after the failure, %d interrupts", got, b.config)
	}
	if got := start(); got&needsReset == 0 {
		t.Errorf("status %#x after a reset and another start", got)
	}
	if n := len(b.dev.Activations()); n != 1 {
		t.Errorf("the device was activated %d times", n)
	}
	if len(b.lines) == 0 || !strings.Contains(b.lines[0], "its worker has exited") {
		t.Errorf("log %q", b.lines)
	}
}
