package virtiotest_test

import (
	"bytes"
	"testing"

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
