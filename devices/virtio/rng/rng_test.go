package rng_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/rng"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// fetch requests random bytes in pieces and returns what the device wrote.
func fetch(t testing.TB, d *virtiotest.Driver, pieces ...int) []byte {
	t.Helper()
	var chain []queuetest.Desc
	var bufs [][]byte
	for _, n := range pieces {
		gpa, b := d.Buffer(n)
		clear(b)
		chain = append(chain, queuetest.Desc{GPA: gpa, Len: uint32(n), Flags: queuetest.Write})
		bufs = append(bufs, b)
	}
	r := d.Rings[0]
	if d.Features.Has(virtio.FeatureRingIndirectDesc) {
		table, _ := d.Buffer(16 * len(chain))
		r.AddIndirect(table, chain...)
	} else {
		r.Add(chain...)
	}
	r.Kick()
	u, err := r.WaitUsed(testenv.Patience)
	if err != nil {
		t.Fatal(err)
	}
	all := bytes.Join(bufs, nil)
	if int(u.Len) > len(all) {
		t.Fatalf("%d bytes in %d", u.Len, len(all))
	}
	if !bytes.Equal(all[u.Len:], make([]byte, len(all)-int(u.Len))) {
		t.Errorf("the device wrote beyond the %d bytes that it reported", u.Len)
	}
	return all[:u.Len]
}

func traffic(t testing.TB, d *virtiotest.Driver) {
	for _, pieces := range [][]int{{64}, {1, 31, 4000}, {16, 16, 16, 16}} {
		got := fetch(t, d, pieces...)
		want := 0
		for _, n := range pieces {
			want += n
		}
		if len(got) != want || bytes.Count(got, []byte{0}) > 8+want/16 {
			t.Errorf("%d bytes of %d, % x...: not random", len(got), want, got[:16])
		}
	}
}

func TestConformance(t *testing.T) {
	virtiotest.TestDevice(t, func(testing.TB) virtio.Device { return rng.New(rand.Reader) }, virtiotest.Suite{
		Traffic: traffic,
		Shape: func(d *virtiotest.Driver) []queuetest.Desc {
			gpa, _ := d.Buffer(64)
			return []queuetest.Desc{{GPA: gpa, Len: 64, Flags: queuetest.Write}}
		},
	})
}

func TestARequestIsFilledUpTo64KiB(t *testing.T) {
	d := virtiotest.NewDriver(t, rng.New(rand.Reader))
	d.Start(0)
	if got := fetch(t, d, 60<<10, 1, 60<<10, 1<<20); len(got) != rng.MaxRequest {
		t.Errorf("%d bytes, want %d", len(got), rng.MaxRequest)
	}
}

func TestAFailedSourceFailsTheDevice(t *testing.T) {
	d := virtiotest.NewDriver(t, rng.New(io.LimitReader(rand.Reader, 100)))
	d.Start(0)
	fetch(t, d, 64)
	gpa, _ := d.Buffer(64)
	d.Rings[0].Add(queuetest.Desc{GPA: gpa, Len: 64, Flags: queuetest.Write})
	d.Rings[0].Kick()
	if err := d.WaitNeedsReset(); err != nil {
		t.Error(err)
	}
}

func TestARequestWithoutABufferComesBackEmpty(t *testing.T) {
	d := virtiotest.NewDriver(t, rng.New(readerFunc(func([]byte) (int, error) { return 0, errors.New("unexpected read") })))
	d.Start(0)
	gpa, _ := d.Buffer(64)
	d.Rings[0].Add(queuetest.Desc{GPA: gpa, Len: 64})
	d.Rings[0].Kick()
	if u, err := d.Rings[0].WaitUsed(testenv.Patience); err != nil || u.Len != 0 {
		t.Errorf("%+v, %v", u, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
