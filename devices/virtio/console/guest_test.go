package console_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
	"minivmm/devices/virtio/console"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// Events of the control channel (uapi/linux/virtio_console.h).
const (
	deviceReady, portAdd, portReady, portOpen, portName = 0, 1, 3, 6, 7
)

// Queue indices; rx and tx return those of port 1 and up.
const controlRx, controlTx = 2, 3

func rx(port int) int { return 2 + 2*port }
func tx(port int) int { return 3 + 2*port }

// inbox is a driver's receive queue. Buffers are returned to the device once they are read.
type inbox struct {
	t    testing.TB
	r    *queuetest.Ring
	gpa  map[uint32]guestmem.GPA // by chain
	bufs map[uint32][]byte
}

func newInbox(t testing.TB, d *virtiotest.Driver, q, buffers, size int) *inbox {
	x := &inbox{t, d.Rings[q], map[uint32]guestmem.GPA{}, map[uint32][]byte{}}
	for range buffers {
		x.give(d.Buffer(size))
	}
	return x
}

func (x *inbox) give(gpa guestmem.GPA, b []byte) {
	head := uint32(x.r.Add(queuetest.Desc{GPA: gpa, Len: uint32(len(b)), Flags: queuetest.Write}))
	x.gpa[head], x.bufs[head] = gpa, b
	x.r.Kick()
}

// take waits for the next returned buffer and returns its contents. If again is set, it gives the
// buffer back to the device.
func (x *inbox) take(again bool) []byte {
	x.t.Helper()
	u, err := x.r.WaitUsed(testenv.Patience)
	if err != nil {
		x.t.Fatal(err)
	}
	gpa, b := x.gpa[u.ID], x.bufs[u.ID]
	got := bytes.Clone(b[:u.Len])
	if again {
		x.give(gpa, b)
	}
	return got
}

// want takes buffers until it has len(want) bytes and compares them.
func (x *inbox) want(want []byte) {
	x.t.Helper()
	var got []byte
	for len(got) < len(want) {
		got = append(got, x.take(true)...)
	}
	if !bytes.Equal(got, want) {
		x.t.Fatalf("the guest received %d bytes %.40q, want %d bytes %.40q", len(got), got, len(want), want)
	}
}

// put makes b readable for the device on queue q and kicks it.
func put(d *virtiotest.Driver, q int, b []byte) {
	gpa, buf := d.Buffer(len(b))
	copy(buf, b)
	d.Rings[q].Add(queuetest.Desc{GPA: gpa, Len: uint32(len(b))})
	d.Rings[q].Kick()
}

// write is put, and waits until the device has consumed the data.
func write(t testing.TB, d *virtiotest.Driver, q int, b []byte) {
	t.Helper()
	put(d, q, b)
	if u, err := d.Rings[q].WaitUsed(testenv.Patience); err != nil || u.Len != 0 {
		t.Fatalf("queue %d: %+v, %v", q, u, err)
	}
}

// packet is struct virtio_console_control.
func packet(id uint32, event, value uint16) []byte {
	b := binary.LittleEndian.AppendUint32(nil, id)
	b = binary.LittleEndian.AppendUint16(b, event)
	return binary.LittleEndian.AppendUint16(b, value)
}

// tell sends a control message and waits until it is consumed, as Linux does.
func tell(t testing.TB, d *virtiotest.Driver, id uint32, event, value uint16) {
	t.Helper()
	write(t, d, controlTx, packet(id, event, value))
}

// hear waits for the given control message.
func (x *inbox) hear(id uint32, event, value uint16, name string) {
	x.t.Helper()
	if got, want := x.take(true), append(packet(id, event, value), name...); !bytes.Equal(got, want) {
		x.t.Fatalf("control message %q, want %q", got, want)
	}
}

// ready sets up the device and its ports, as Linux does, up to the names from the host. state is
// the state of the hosts: 1 connected, 0 hung up.
func ready(t testing.TB, d *virtiotest.Driver, state uint16, names ...string) (control *inbox) {
	t.Helper()
	control = newInbox(t, d, controlRx, 8, 4096)
	tell(t, d, ^uint32(0), deviceReady, 1)
	for i := range names {
		control.hear(uint32(i+1), portAdd, 1, "")
	}
	for i, name := range names {
		tell(t, d, uint32(i+1), portReady, 1)
		control.hear(uint32(i+1), portOpen, state, "")
		control.hear(uint32(i+1), portName, 1, name)
	}
	return control
}

func newDevice(t testing.TB, ports ...console.Port) *console.Device {
	t.Helper()
	dev, err := console.New(ports)
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// one returns a live device with one port, "a", open in the guest if open is set. d holds the
// guest's end of its queues, host the host's end of the port.
func one(t testing.TB, open bool) (d *virtiotest.Driver, host net.Conn, control *inbox) {
	t.Helper()
	device, host := net.Pipe()
	t.Cleanup(func() { host.Close() })
	d = virtiotest.NewDriver(t, newDevice(t, console.Port{Name: "a", Conn: device}))
	d.Start(^virtio.Features(0))
	control = ready(t, d, 1, "a")
	if open {
		tell(t, d, 1, portOpen, 1)
	}
	return d, host, control
}

// noise returns n bytes without repetition.
func noise(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%x,", i*i)
	}
	return slices.Clip(b[:n])
}
