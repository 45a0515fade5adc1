package net

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
	"minivmm/vhost"
)

// Queue indices (virtio 1.2 §5.1.2). Pair k has queues 2k and 2k+1.
const (
	rxQueue = 0
	txQueue = 1
)

// nic is a device on vhost-net with its own tap, and the host's end of that tap.
type nic struct {
	*Device
	tap    *Tap
	wire   wire
	failed atomic.Int32 // goroutines that ended with an error
}

func openNIC(t testing.TB) *nic { return openNICPairs(t, 1) }

func openNICPairs(t testing.TB, pairs int) *nic {
	t.Helper()
	tap, err := OpenTap(TapConfig{NewName: "mvmtest%d", Queues: pairs})
	if err != nil {
		t.Fatal(err)
	}
	var devs []*vhost.Net
	for range pairs {
		dev, err := vhost.OpenNet()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dev.SetOwnerHere(); err != nil {
			t.Fatal(err)
		}
		devs = append(devs, dev)
	}
	backend, err := NewVhost("net0", devs, tap)
	if err != nil {
		t.Fatal(err)
	}
	device, err := New(Config{MAC: testMAC, QueueSize: 64, Pairs: pairs}, backend)
	if err != nil {
		t.Fatal(err)
	}
	return &nic{Device: device, tap: tap, wire: openWire(t, tap)}
}

func (n *nic) Close() error {
	n.wire.close()
	return n.Device.Close()
}

// Activate counts how often the failure of the data path is reported.
func (n *nic) Activate(a virtio.Activation) error {
	start := a.Go
	a.Go = func(run func(context.Context) error) bool {
		return start(func(ctx context.Context) error {
			err := run(ctx)
			if err != nil && ctx.Err() == nil {
				n.failed.Add(1)
			}
			return err
		})
	}
	return n.Device.Activate(a)
}

// etherType is reserved by the IEEE for local experiments: no other frames have it.
const etherType = 0x88b5

// wire is the host's end of the tap.
type wire struct {
	t  testing.TB
	fd int
}

func openWire(t testing.TB, tap *Tap) wire {
	t.Helper()
	const network = etherType>>8 | etherType&0xff<<8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, network)
	if err != nil {
		t.Fatal(err)
	}
	iface, err := net.InterfaceByName(tap.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: iface.Index}); err != nil {
		t.Fatal(err)
	}
	w := wire{t, fd}
	second := unix.Timeval{Sec: int64(testenv.Patience / time.Second)}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &second); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w wire) close() { unix.Close(w.fd) }

func (w wire) send(frame []byte) {
	w.t.Helper()
	if _, err := unix.Write(w.fd, frame); err != nil {
		w.t.Fatal(err)
	}
}

// receive waits for this frame and drops others that arrive before it.
func (w wire) receive(want []byte) {
	w.t.Helper()
	got := make([]byte, 2048)
	for {
		n, err := unix.Read(w.fd, got)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			w.t.Fatalf("frame from the guest: %v", err)
		}
		if bytes.Equal(got[:n], want) {
			return
		}
	}
}

// frames numbers the frames of newFrame, so that no two are equal.
var frames atomic.Uint32

func newFrame() []byte {
	f := make([]byte, 14, 1514)
	copy(f, "\xff\xff\xff\xff\xff\xff")
	copy(f[6:], testMAC)
	binary.BigEndian.PutUint16(f[12:], etherType)
	f = binary.BigEndian.AppendUint32(f, frames.Add(1))
	return append(f, bytes.Repeat([]byte("minivmm "), 40)...)
}

// transmit sends a frame through queue 1, header and frame in a chain of two.
func transmit(t testing.TB, d *virtiotest.Driver, frame []byte) {
	t.Helper()
	transmitOn(t, d, txQueue, frame)
}

func transmitOn(t testing.TB, d *virtiotest.Driver, ring int, frame []byte) {
	t.Helper()
	header, h := d.Buffer(headerBytes)
	clear(h)
	body, b := d.Buffer(len(frame))
	copy(b, frame)
	chain := []queuetest.Desc{{GPA: header, Len: headerBytes}, {GPA: body, Len: uint32(len(frame))}}
	r := d.Rings[ring]
	if d.Features.Has(virtio.FeatureRingIndirectDesc) {
		table, _ := d.Buffer(16 * len(chain))
		r.AddIndirect(table, chain...)
	} else {
		r.Add(chain...)
	}
	r.Kick()
	if u, err := r.WaitUsed(testenv.Patience); err != nil || u.Len != 0 {
		t.Fatalf("transmit: %+v, %v", u, err)
	}
}

// receive sends a frame from the wire and adds buffers to queue 0 until the frame arrives. It adds
// one buffer at a time so that none is left. Packets that the host's network stack sends to a new
// link may arrive first.
func receive(t testing.TB, d *virtiotest.Driver, w wire, frame []byte) {
	t.Helper()
	const foreign = 100
	w.send(frame)
	r := d.Rings[rxQueue]
	for range foreign {
		gpa, b := d.Buffer(2048)
		clear(b)
		r.Add(queuetest.Desc{GPA: gpa, Len: 2048, Flags: queuetest.Write})
		r.Kick()
		u, err := r.WaitUsed(testenv.Patience)
		if err != nil {
			t.Fatalf("receive: %v", err)
		}
		if int(u.Len) < headerBytes || int(u.Len) > len(b) {
			t.Fatalf("receive: %d bytes in a buffer of %d", u.Len, len(b))
		}
		if !bytes.Equal(b[headerBytes:u.Len], frame) {
			continue
		}
		if n := binary.LittleEndian.Uint16(b[10:]); d.Features.Has(FeatureMrgRxbuf) && n != 1 {
			t.Errorf("num_buffers %d, want 1", n)
		}
		return
	}
	t.Fatalf("receive: the frame is not among the first %d", foreign)
}

// traffic sends frames in both directions.
func (n *nic) traffic(t testing.TB, d *virtiotest.Driver) {
	t.Helper()
	for range 2 {
		out, in := newFrame(), newFrame()
		transmit(t, d, out)
		n.wire.receive(out)
		receive(t, d, n.wire, in)
	}
}

// txShape returns a valid chain for queue 1.
func txShape(d *virtiotest.Driver) []queuetest.Desc {
	gpa, b := d.Buffer(headerBytes + 60)
	clear(b[:headerBytes])
	copy(b[headerBytes:], newFrame())
	return []queuetest.Desc{{GPA: gpa, Len: uint32(len(b))}}
}
