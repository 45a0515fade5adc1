package net

import (
	"bytes"
	"errors"
	"net"
	"testing"

	"minivmm/devices/virtio"
)

// fakeBackend records whether it is running.
type fakeBackend struct {
	features virtio.Features
	running  bool
	closed   bool
}

func (b *fakeBackend) Features() virtio.Features     { return b.features }
func (b *fakeBackend) InKernel() bool                { return false }
func (b *fakeBackend) Start(virtio.Activation) error { b.running = true; return nil }
func (b *fakeBackend) Stop() error                   { b.running = false; return nil }
func (b *fakeBackend) Close() error                  { b.closed = true; return nil }

var testMAC = net.HardwareAddr{0x02, 0x11, 0x22, 0x33, 0x44, 0x55}

func TestConfigurationSpace(t *testing.T) {
	for _, tc := range []struct {
		mtu  uint16
		want string
	}{
		{0, "\x02\x11\x22\x33\x44\x55\x01\x00\x01\x00\x00\x00"},
		{9000, "\x02\x11\x22\x33\x44\x55\x01\x00\x01\x00\x28\x23"},
	} {
		d, err := New(Config{MAC: testMAC, MTU: tc.mtu, QueueSize: 256}, &fakeBackend{})
		if err != nil {
			t.Fatal(err)
		}
		if has := d.Features().Has(FeatureMTU); has != (tc.mtu != 0) {
			t.Errorf("mtu %d: VIRTIO_NET_F_MTU %v", tc.mtu, has)
		}
		for off := range uint32(20) {
			got := bytes.Repeat([]byte{0xa5}, 16)
			d.WriteConfig([]byte{1, 2, 3, 4}, off)
			d.ReadConfig(got, off)
			want := make([]byte, 16)
			if int(off) < len(tc.want) {
				copy(want, tc.want[off:])
			}
			if !bytes.Equal(got, want) {
				t.Errorf("mtu %d: at %d: % x, want % x", tc.mtu, off, got, want)
			}
		}
	}
}

func TestOfferedFeatures(t *testing.T) {
	d, err := New(Config{MAC: testMAC, QueueSize: 128}, &fakeBackend{features: FeatureMrgRxbuf})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Features(), FeatureMrgRxbuf|FeatureMAC|FeatureStatus; got != want {
		t.Errorf("features %#x, want %#x", got, want)
	}
	if got := d.QueueSizes(); len(got) != 2 || got[0] != 128 || got[1] != 128 {
		t.Errorf("queues %v, want two of 128", got)
	}
	const anyLayout, accessPlatform, ringReset = 1 << 27, 1 << 33, 1 << 40
	if bad := (offered | ringFeatures) & (anyLayout | accessPlatform | ringReset); bad != 0 {
		t.Errorf("features %#x are offered with vhost-net", bad)
	}
}

func TestAMACHasSixBytes(t *testing.T) {
	for _, mac := range []net.HardwareAddr{nil, testMAC[:5], append(testMAC[:6:6], 0, 0)} {
		if _, err := New(Config{MAC: mac, QueueSize: 2}, &fakeBackend{}); err == nil {
			t.Errorf("%v: no error", mac)
		}
	}
}

func TestBothQueuesOrNone(t *testing.T) {
	b := &fakeBackend{}
	d, err := New(Config{MAC: testMAC, QueueSize: 2}, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, queues := range [][]virtio.Queue{nil, {{Index: 0}}, {{Index: 1}}} {
		if err := d.Activate(virtio.Activation{Queues: queues}); err == nil || b.running {
			t.Errorf("%d queues: %v, running %v", len(queues), err, b.running)
		}
	}
	if err := d.Activate(virtio.Activation{Queues: []virtio.Queue{{Index: 0}, {Index: 1}}}); err != nil || !b.running {
		t.Errorf("both queues: %v, running %v", err, b.running)
	}
	if err := errors.Join(d.Reset(), d.Close()); err != nil || b.running || !b.closed {
		t.Errorf("%v, running %v, closed %v", err, b.running, b.closed)
	}
}
