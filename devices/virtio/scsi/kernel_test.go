package scsi

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
	"minivmm/vhost"
	"minivmm/vhost/lio"
)

// newTarget creates a target with one disk of 1 MiB.
func newTarget(t testing.TB) *lio.Target {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 1<<20); err != nil {
		t.Fatal(err)
	}
	target, err := lio.Create(lio.Config{Name: "test", LUNs: []lio.LUN{{Path: image, Serial: "serial-1"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Remove(); err != nil {
			t.Error(err)
		}
	})
	return target
}

// adapter is the device over vhost-scsi.
type adapter struct {
	*Device
	failed atomic.Int32 // goroutines that failed
}

func openAdapter(t testing.TB, target *lio.Target) *adapter {
	t.Helper()
	dev, err := vhost.OpenScsi()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dev.SetOwnerHere(); err != nil {
		t.Fatal(err)
	}
	backend, err := NewVhost("scsi0", dev, target.WWPN())
	if err != nil {
		t.Fatal(err)
	}
	device, err := New(Config{RequestQueues: 2, QueueSize: 16}, backend)
	if err != nil {
		t.Fatal(err)
	}
	return &adapter{Device: device}
}

// Activate counts how often a failure of the data path is reported.
func (a *adapter) Activate(act virtio.Activation) error {
	start := act.Go
	act.Go = func(run func(context.Context) error) bool {
		return start(func(ctx context.Context) error {
			err := run(ctx)
			if err != nil && ctx.Err() == nil {
				a.failed.Add(1)
			}
			return err
		})
	}
	return a.Device.Activate(act)
}

// Sizes of the headers (virtio 1.2 §5.6.6.1), with cdb_size 32 and sense_size 96.
const (
	requestBytes  = 8 + 8 + 3 + cdbBytes
	responseBytes = 4 + 4 + 2 + 1 + 1 + senseBytes
)

// exchange sends a chain through a queue: a header, data to the device, a response, data from the
// device.
func exchange(t testing.TB, d *virtiotest.Driver, queue int, header, out []byte, response, in int) (answer, data []byte) {
	t.Helper()
	var chain []queuetest.Desc
	readable := func(p []byte) {
		gpa, b := d.Buffer(len(p))
		copy(b, p)
		chain = append(chain, queuetest.Desc{GPA: gpa, Len: uint32(len(p))})
	}
	writable := func(n int) []byte {
		gpa, b := d.Buffer(n)
		for i := range b {
			b[i] = 0xa5
		}
		chain = append(chain, queuetest.Desc{GPA: gpa, Len: uint32(n), Flags: queuetest.Write})
		return b
	}
	readable(header)
	if len(out) > 0 {
		readable(out)
	}
	answer = writable(response)
	if in > 0 {
		data = writable(in)
	}
	r := d.Rings[queue]
	if d.Features.Has(virtio.FeatureRingIndirectDesc) {
		table, _ := d.Buffer(16 * len(chain))
		r.AddIndirect(table, chain...)
	} else {
		r.Add(chain...)
	}
	r.Kick()
	if _, err := r.WaitUsed(testenv.Patience); err != nil {
		t.Fatal(err)
	}
	return answer, data
}

// lun0 is virtio's address of target 0's LUN 0.
var lun0 = []byte{1, lio.TargetID, 0x40, 0, 0, 0, 0, 0}

// command sends a SCSI command, repeats it after each unit attention, which a new initiator
// receives, and requires it to succeed.
func command(t testing.TB, d *virtiotest.Driver, queue int, cdb, out []byte, in int) []byte {
	t.Helper()
	header := make([]byte, requestBytes)
	copy(header, lun0)
	copy(header[19:], cdb)
	for range 5 {
		answer, data := exchange(t, d, queue, header, out, responseBytes, in)
		status, response, key := answer[10], answer[11], answer[12+2]&0xf
		const checkCondition, unitAttention = 2, 6
		switch {
		case response != 0:
			t.Fatalf("command % x: response %d", cdb, response)
		case status == 0:
			return data
		case status != checkCondition || key != unitAttention:
			t.Fatalf("command % x: status %#x, sense key %d", cdb, status, key)
		}
	}
	t.Fatalf("command % x: too many unit attentions", cdb)
	return nil
}

// resetLUN sends a task management request through the control queue.
func resetLUN(t testing.TB, d *virtiotest.Driver) {
	t.Helper()
	const logicalUnitReset, functionComplete, functionSucceeded = 5, 0, 10 // the latter is the answer of vhost-scsi
	header := make([]byte, 4+4+8+8)
	header[4] = logicalUnitReset
	copy(header[8:], lun0)
	if answer, _ := exchange(t, d, controlQueue, header, nil, 1, 0); answer[0] != functionSucceeded && answer[0] != functionComplete {
		t.Errorf("LOGICAL UNIT RESET: response %d", answer[0])
	}
}

func inquiry(t testing.TB, d *virtiotest.Driver, queue int) {
	t.Helper()
	data := command(t, d, queue, []byte{0x12, 0, 0, 0, 36, 0}, nil, 36)
	if data[0] != 0 || !bytes.HasPrefix(data[16:], []byte("minivmm disk")) {
		t.Errorf("INQUIRY: % x", data)
	}
}

// traffic sends INQUIRY, and writes and reads back data, through every request queue.
func traffic(t testing.TB, d *virtiotest.Driver) {
	t.Helper()
	for i := range len(d.Rings) - requestQueue {
		queue := requestQueue + i
		inquiry(t, d, queue)
		block := make([]byte, 8*512)
		rand.Read(block)
		cdb := []byte{0x2a, 0, 0, 0, 0, byte(100 * i), 0, 0, 8, 0} // WRITE (10)
		command(t, d, queue, cdb, block, 0)
		cdb[0] = 0x28 // READ (10)
		if got := command(t, d, queue, cdb, nil, len(block)); !bytes.Equal(got, block) {
			t.Errorf("queue %d: read % x..., wrote % x...", queue, got[:16], block[:16])
		}
	}
	resetLUN(t, d)
}

// shape is a valid chain for a request queue: TEST UNIT READY.
func shape(d *virtiotest.Driver) []queuetest.Desc {
	header, h := d.Buffer(requestBytes)
	clear(h)
	copy(h, lun0)
	response, _ := d.Buffer(responseBytes)
	return []queuetest.Desc{{GPA: header, Len: requestBytes}, {GPA: response, Len: responseBytes, Flags: queuetest.Write}}
}

const everything = ^virtio.Features(0)

func TestVhostSCSIConforms(t *testing.T) {
	testenv.Need(t, "root", "vhost-scsi")
	target := newTarget(t)
	virtiotest.TestDevice(t, func(t testing.TB) virtio.Device { return openAdapter(t, target) }, virtiotest.Suite{
		Traffic: traffic,
		Hostile: requestQueue,
		Shape:   shape,
		Lives:   1000, // each allocates and frees 5 MiB in the kernel
	})
}

// TestABadRingIsReportedOnceAndAffectsNoOtherDevice breaks each queue of one device while another
// device keeps running.
func TestABadRingIsReportedOnceAndAffectsNoOtherDevice(t *testing.T) {
	testenv.Need(t, "root", "vhost-scsi")
	bad, good := openAdapter(t, newTarget(t)), openAdapter(t, newTarget(t))
	b, g := virtiotest.NewDriver(t, bad), virtiotest.NewDriver(t, good)
	g.Start(everything)
	for _, tc := range []struct {
		name  string
		queue int
		chain []queuetest.Desc
	}{
		{"control", controlQueue, []queuetest.Desc{{GPA: 1 << 40, Len: 24}, {GPA: virtiotest.BufferBase, Len: 1, Flags: queuetest.Write}}},
		{"request", requestQueue, []queuetest.Desc{{GPA: 1 << 40, Len: requestBytes}, {GPA: virtiotest.BufferBase, Len: responseBytes, Flags: queuetest.Write}}},
		{"request, response buffer too small", requestQueue + 1, []queuetest.Desc{{GPA: virtiotest.BufferBase, Len: requestBytes}, {GPA: virtiotest.BufferBase, Len: 8, Flags: queuetest.Write}}},
		{"request, short header", requestQueue, []queuetest.Desc{{GPA: virtiotest.BufferBase, Len: 7}, {GPA: virtiotest.BufferBase, Len: responseBytes, Flags: queuetest.Write}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad.failed.Store(0)
			b.Start(everything)
			traffic(t, b)
			b.Rings[tc.queue].Add(tc.chain...)
			b.Rings[tc.queue].ForceKick()
			if err := b.WaitNeedsReset(); err != nil {
				t.Error(err)
			}
			for range 10 {
				b.Rings[tc.queue].ForceKick()
				traffic(t, g)
				g.Reset() // otherwise its buffers run out
				g.Start(everything)
			}
			b.Reset()
			if n := bad.failed.Load(); n != 1 {
				t.Errorf("reported %d failures, want 1", n)
			}
			b.Start(everything)
			traffic(t, b)
			b.Reset()
		})
	}
}

// TestOneTargetServesOneDevice starts a second device on a target: it needs a reset at once, and
// works once the first has released the target.
func TestOneTargetServesOneDevice(t *testing.T) {
	testenv.Need(t, "root", "vhost-scsi")
	target := newTarget(t)
	first, second := virtiotest.NewDriver(t, openAdapter(t, target)), virtiotest.NewDriver(t, openAdapter(t, target))
	first.Start(everything)
	second.Negotiate(everything)
	second.SetUp()
	if s := second.Go(); s&virtio.StatusNeedsReset == 0 {
		t.Errorf("status %#x: two devices use one target", s)
	}
	traffic(t, first)
	first.Reset()
	second.Reset()
	second.Start(everything)
	traffic(t, second)
}

// TestAKickBeforeDriverOKIsNotLost kicks before DRIVER_OK. The kernel loses such a kick unless
// it gets the eventfd after the endpoint. A driver must not do this, but a spurious wake-up must
// not make a difference.
func TestAKickBeforeDriverOKIsNotLost(t *testing.T) {
	testenv.Need(t, "root", "vhost-scsi")
	d := virtiotest.NewDriver(t, openAdapter(t, newTarget(t)))
	for range 20 {
		d.Negotiate(everything)
		d.SetUp()
		r := d.Rings[requestQueue]
		r.Add(shape(d)...)
		r.Kick()
		d.Go()
		if _, err := r.WaitUsed(testenv.Patience); err != nil {
			t.Fatal(err)
		}
		d.Reset()
	}
}

// TestResetWithRequestsInProgress fills the ring and resets: requests that were started are
// completed or dropped, and nothing is written afterwards.
func TestResetWithRequestsInProgress(t *testing.T) {
	testenv.Need(t, "root", "vhost-scsi")
	d := virtiotest.NewDriver(t, openAdapter(t, newTarget(t)))
	for range 20 {
		d.Start(everything)
		inquiry(t, d, requestQueue)
		r := d.Rings[requestQueue]
		var rooms [][]byte
		for range 5 {
			chain := shape(d)
			_, header := d.Buffer(requestBytes)
			copy(header, lun0)
			copy(header[19:], []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 128, 0})
			h, err := d.Memory.Window(chain[0].GPA, requestBytes)
			if err != nil {
				t.Fatal(err)
			}
			copy(h, header)
			gpa, room := d.Buffer(64 << 10)
			r.Add(append(chain, queuetest.Desc{GPA: gpa, Len: 64 << 10, Flags: queuetest.Write})...)
			rooms = append(rooms, room)
		}
		r.ForceKick()
		d.Reset()
		for _, room := range rooms {
			for i := range room {
				room[i] = 0x5a
			}
		}
		d.Start(everything)
		inquiry(t, d, requestQueue)
		for i, room := range rooms {
			if n := bytes.Count(room, []byte{0x5a}); n != len(room) {
				t.Fatalf("request %d: %d bytes were written after the reset", i, len(room)-n)
			}
		}
		d.Reset()
	}
}
