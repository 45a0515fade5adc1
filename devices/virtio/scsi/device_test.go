package scsi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"minivmm/devices/virtio"
)

// fakeBackend records whether it runs.
type fakeBackend struct {
	running bool
	closed  bool
}

func (b *fakeBackend) Features() virtio.Features     { return FeatureHotplug }
func (b *fakeBackend) InKernel() bool                { return false }
func (b *fakeBackend) Start(virtio.Activation) error { b.running = true; return nil }
func (b *fakeBackend) Stop() error                   { b.running = false; return nil }
func (b *fakeBackend) Close() error                  { b.closed = true; return nil }

func TestConfigurationSpace(t *testing.T) {
	d, err := New(Config{RequestQueues: 3, QueueSize: 128, MaxLUN: 7}, &fakeBackend{})
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	var want []byte
	for _, v := range []uint32{3, 126, 8192, 128, 16, 96, 32} { // num_queues to cdb_size
		want = le.AppendUint32(want, v)
	}
	want = le.AppendUint16(want, 0) // max_channel
	want = le.AppendUint16(want, 0) // max_target
	want = le.AppendUint32(want, 7) // max_lun
	for off := range uint32(40) {
		d.WriteConfig([]byte{0xff, 0xff, 0xff, 0xff}, off)
		got := bytes.Repeat([]byte{0xa5}, 40)
		d.ReadConfig(got, off)
		expected := make([]byte, 40)
		if int(off) < len(want) {
			copy(expected, want[off:])
		}
		if !bytes.Equal(got, expected) {
			t.Errorf("at %d: % x, want % x", off, got, expected)
		}
	}
	if got := d.Features(); got != FeatureHotplug {
		t.Errorf("features %#x are not the backend's", uint64(got))
	}
	if got := d.QueueSizes(); len(got) != 5 || got[0] != 128 || got[4] != 128 {
		t.Errorf("queues %v, want five of 128", got)
	}
}

func TestAHostAdapterNeedsRequestQueues(t *testing.T) {
	for _, cfg := range []Config{{RequestQueues: 0, QueueSize: 128}, {RequestQueues: -1, QueueSize: 128}, {RequestQueues: 1, QueueSize: 8}, {RequestQueues: 1}} {
		if _, err := New(cfg, &fakeBackend{}); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
	}
}

func TestActivationNeedsControlEventAndARequestQueue(t *testing.T) {
	for _, tc := range []struct {
		enabled []uint16
		want    bool
	}{
		{nil, false},
		{[]uint16{0, 1}, false},
		{[]uint16{2}, false},
		{[]uint16{0, 2}, false},
		{[]uint16{1, 2}, false},
		{[]uint16{2, 3}, false},
		{[]uint16{0, 1, 2}, true},
		{[]uint16{0, 1, 3}, true},
		{[]uint16{0, 1, 2, 3}, true},
	} {
		b := &fakeBackend{}
		d, err := New(Config{RequestQueues: 2, QueueSize: 16}, b)
		if err != nil {
			t.Fatal(err)
		}
		var a virtio.Activation
		for _, i := range tc.enabled {
			a.Queues = append(a.Queues, virtio.Queue{Index: i})
		}
		if err := d.Activate(a); (err == nil) != tc.want || b.running != tc.want {
			t.Errorf("queues %v: %v, running %v", tc.enabled, err, b.running)
		}
		if err := errors.Join(d.Reset(), d.Close()); err != nil || b.running || !b.closed {
			t.Errorf("%v, running %v, closed %v", err, b.running, b.closed)
		}
	}
}
