package virtiotest_test

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// echo is a backend that copies readable buffers into writable ones, with one goroutine for each
// queue.
type echo struct{}

func (echo) Features() virtio.Features {
	return virtio.FeatureRingEventIdx | virtio.FeatureRingIndirectDesc
}

func (echo) InKernel() bool { return false }

func (echo) Start(a virtio.Activation) error {
	for _, q := range a.Queues {
		err := queue.Start(a, q, queue.Each(func(c *queue.Chain) (uint32, error) {
			p := make([]byte, min(c.Readable.Len(), c.Writable.Len()))
			c.Readable.Read(p)
			return uint32(c.Writable.Write(p)), nil
		}))
		if err != nil {
			return err
		}
	}
	return nil
}

func (echo) Stop() error  { return nil }
func (echo) Close() error { return nil }

func TestABackendInThisProcessPasses(t *testing.T) {
	virtiotest.TestBackend(t, virtio.NetID, []uint16{64, 256, 2}, func(testing.TB) virtio.Backend { return echo{} }, virtiotest.Suite{
		Traffic: func(t testing.TB, d *virtiotest.Driver) {
			for i, r := range d.Rings {
				in, sent := d.Buffer(100)
				out, got := d.Buffer(100)
				for n := range sent {
					sent[n] = byte(n + i)
				}
				r.Add(queuetest.Desc{GPA: in, Len: 100}, queuetest.Desc{GPA: out, Len: 100, Flags: queuetest.Write})
				r.Kick()
				u, err := r.WaitUsed(testenv.Patience)
				if err != nil {
					t.Fatal(err)
				}
				if u.Len != 100 || !bytes.Equal(sent, got) {
					t.Errorf("queue %d: %d bytes: % x", i, u.Len, got)
				}
			}
		},
		Hostile: 1,
		Shape: func(d *virtiotest.Driver) []queuetest.Desc {
			gpa, _ := d.Buffer(64)
			return []queuetest.Desc{{GPA: gpa, Len: 64}}
		},
		Lives: 100,
	})
}

func TestTheHostRefusesWhatKVMRefuses(t *testing.T) {
	h := &virtiotest.Host{}
	call, err := virtio.NewNotifier("call")
	if err != nil {
		t.Fatal(err)
	}
	defer call.Close()
	one, _ := h.NewMSI()
	two, _ := h.NewMSI()
	for _, m := range []virtio.MSI{one, two} {
		if err := m.Connect(call); !errors.Is(err, unix.EINVAL) {
			t.Errorf("connected without a message: %v", err)
		}
		if err := m.Program(virtio.Message{Data: 7}); err != nil {
			t.Error(err)
		}
	}
	call.Signal()
	if err := one.Connect(call); err != nil {
		t.Error(err)
	}
	if got := h.Interrupts(); len(got) != 1 || got[0].Data != 7 {
		t.Errorf("messages %v: an earlier signal must be sent when the notifier is connected", got)
	}
	if err := two.Connect(call); !errors.Is(err, unix.EBUSY) {
		t.Errorf("one notifier on two messages: %v", err)
	}
	if err := two.Disconnect(call); !errors.Is(err, unix.ENOENT) {
		t.Errorf("disconnected a notifier that was not connected: %v", err)
	}
	detach, err := h.AttachDoorbell(0x1000, call)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.AttachDoorbell(0x1000, call); !errors.Is(err, unix.EEXIST) {
		t.Errorf("two doorbells at one address: %v", err)
	}
	if !h.Ring(0x1000) || !call.Drain() || h.Ring(0x1004) {
		t.Error("the doorbell does not ring, or another one does")
	}
	if err := errors.Join(detach(), one.Disconnect(call), one.Close(), two.Close()); err != nil {
		t.Error(err)
	}
	if d, m, c := h.Live(); d+m+c != 0 {
		t.Errorf("%d doorbells, %d messages, %d connections left", d, m, c)
	}
}
