package virtiotest

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/internal/testbed/testenv"
)

// Layout of a Driver's guest memory: the rings start at ringBase, the buffers at BufferBase.
const (
	ringBase   guestmem.GPA = 0x10_0000
	BufferBase guestmem.GPA = 0x100_0000 // address of the first Buffer
	ramSize                 = 32 << 20
)

// Driver drives a device as a guest's driver does, through a Frontend but without a transport. It
// must be used by one goroutine only.
type Driver struct {
	*virtio.Frontend
	Memory *guestmem.Memory
	// Rings holds the driver side of each queue, in the order of the queues. SetUp fills it,
	// and Reset empties it.
	Rings []*queuetest.Ring
	// Features are the negotiated features.
	Features virtio.Features

	t      testing.TB
	config *virtio.Notifier
	buffer guestmem.GPA
	closed bool
}

// NewDriver creates a frontend for dev and resets the device. The device is closed when the test
// ends.
func NewDriver(t testing.TB, dev virtio.Device) *Driver {
	t.Helper()
	mem, err := guestmem.New([]guestmem.Range{{GPA: 0, SizeBytes: ramSize}})
	if err != nil {
		t.Fatal(err)
	}
	d := &Driver{t: t, Memory: mem}
	if d.config, err = virtio.NewNotifier("test-config"); err != nil {
		t.Fatal(err)
	}
	d.Frontend, err = virtio.NewFrontend(dev, mem, virtio.Options{
		Name:     "test0",
		Logf:     func(format string, args ...any) { t.Logf(format, args...) },
		OnConfig: func() { d.config.Signal() },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	d.Reset()
	return d
}

// Close closes the device, its notifier and the guest memory. Later calls do nothing.
func (d *Driver) Close() {
	if d.closed {
		return
	}
	d.closed = true
	for _, closer := range []func() error{d.Frontend.Close, d.Frontend.Close, d.config.Close, d.Memory.Close} {
		if err := closer(); err != nil {
			d.t.Error(err)
		}
	}
}

// Reset resets the device as a driver does and drops the rings.
func (d *Driver) Reset() {
	d.t.Helper()
	if err := d.Frontend.Reset(); err != nil {
		d.t.Errorf("reset: %v", err)
	}
	d.Rings = nil
	d.buffer = BufferBase
	d.config.Drain()
}

// Negotiate takes a reset device to FEATURES_OK. It accepts VIRTIO_F_VERSION_1 and the features in
// the argument want, as far as the device offers them.
func (d *Driver) Negotiate(want virtio.Features) {
	d.t.Helper()
	d.Features = 0
	for sel := range uint32(2) {
		d.Write(virtio.DeviceFeatureSelect, sel)
		d.Features |= virtio.Features(d.Read(virtio.DeviceFeature)) << (32 * sel)
	}
	d.Features &= want | virtio.FeatureVersion1
	s := virtio.StatusAcknowledge | virtio.StatusDriver
	d.Write(virtio.DeviceStatus, uint32(virtio.StatusAcknowledge))
	d.Write(virtio.DeviceStatus, uint32(s))
	for sel := range uint32(2) {
		d.Write(virtio.DriverFeatureSelect, sel)
		d.Write(virtio.DriverFeature, uint32(d.Features>>(32*sel)))
	}
	s |= virtio.StatusFeaturesOK
	d.Write(virtio.DeviceStatus, uint32(s))
	if got := d.Status(); got != s {
		d.t.Fatalf("status %#x after features %#x, want %#x", got, d.Features, s)
	}
}

// SetUp creates and enables a ring for each queue.
func (d *Driver) SetUp() {
	d.t.Helper()
	next := ringBase
	for i := range d.NumQueues() {
		d.Write(virtio.QueueSelect, uint32(i))
		q, end := queuetest.Layout(next, uint16(d.Read(virtio.QueueSizeMax)))
		next = end
		q.Index, q.Kick, q.Call = uint16(i), d.Kick(i), d.Call(i)
		d.Rings = append(d.Rings, queuetest.New(d.t, d.Memory, q, d.Features))
		d.Program(q)
	}
}

// Program writes the registers of the queue q and enables the queue.
func (d *Driver) Program(q virtio.Queue) {
	d.Write(virtio.QueueSelect, uint32(q.Index))
	d.Write(virtio.QueueSize, uint32(q.Size))
	for low, gpa := range map[virtio.Register]guestmem.GPA{
		virtio.QueueDescLow: q.Desc, virtio.QueueDriverLow: q.Driver, virtio.QueueDeviceLow: q.Device,
	} {
		d.Write(low, uint32(gpa))
		d.Write(low+1, uint32(gpa>>32))
	}
	d.Write(virtio.QueueEnable, 1)
}

// Status returns the device status.
func (d *Driver) Status() virtio.Status { return virtio.Status(d.Read(virtio.DeviceStatus)) }

// Go sets DRIVER_OK and returns the resulting status.
func (d *Driver) Go() virtio.Status {
	d.Write(virtio.DeviceStatus, uint32(live))
	return d.Status()
}

const live = virtio.StatusAcknowledge | virtio.StatusDriver | virtio.StatusFeaturesOK | virtio.StatusDriverOK

// Start calls Negotiate, SetUp and Go. The test fails if the device is not live afterwards.
func (d *Driver) Start(want virtio.Features) {
	d.t.Helper()
	d.Negotiate(want)
	d.SetUp()
	if s := d.Go(); s != live {
		d.t.Fatalf("status %#x after DRIVER_OK, want %#x", s, live)
	}
}

// Buffer returns n bytes of guest memory and their address. Buffers do not overlap, but after a
// reset Buffer returns the same memory again.
func (d *Driver) Buffer(n int) (guestmem.GPA, []byte) {
	d.t.Helper()
	gpa := d.buffer
	w, err := d.Memory.Window(gpa, uint64(n))
	if err != nil {
		d.t.Fatalf("no space for a buffer of %d bytes: %v", n, err)
	}
	d.buffer += (guestmem.GPA(n) + 63) &^ 63
	return gpa, w
}

// WaitNeedsReset waits until the status reports a failed device. It reads the status again after
// each configuration interrupt.
func (d *Driver) WaitNeedsReset() error {
	fds := []unix.PollFd{{Fd: int32(d.config.FD()), Events: unix.POLLIN}}
	for deadline := time.Now().Add(testenv.Patience); d.Status()&virtio.StatusNeedsReset == 0; d.config.Drain() {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("status %#x and no configuration interrupt after %v", d.Status(), testenv.Patience)
		}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return err
		}
	}
	return nil
}
