package console_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/console"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// echo is a port whose host sends everything back.
func echo(name string) console.Port {
	device, host := net.Pipe()
	go func() {
		io.Copy(host, host)
		host.Close()
	}()
	return console.Port{Name: name, Conn: device}
}

// traffic sets up both ports and sends data both ways.
func traffic(t testing.TB, d *virtiotest.Driver) {
	t.Helper()
	ready(t, d, 1, "a", "b")
	for port := 1; port <= 2; port++ {
		in := newInbox(t, d, rx(port), 4, 700)
		tell(t, d, uint32(port), portOpen, 1)
		for _, n := range []int{1, 700, 5000} {
			write(t, d, tx(port), noise(n))
			in.want(noise(n))
		}
	}
}

func TestConformance(t *testing.T) {
	virtiotest.TestDevice(t, func(t testing.TB) virtio.Device { return newDevice(t, echo("a"), echo("b")) }, virtiotest.Suite{
		Traffic: traffic,
		Hostile: tx(1),
		Shape: func(d *virtiotest.Driver) []queuetest.Desc {
			gpa, _ := d.Buffer(64)
			return []queuetest.Desc{{GPA: gpa, Len: 64}}
		},
		Lives: 100,
	})
}

// Each activation includes the handshake and data both ways.
func TestAThousandActivations(t *testing.T) {
	d := virtiotest.NewDriver(t, newDevice(t, echo("a")))
	life := func() {
		d.Reset()
		d.Start(^virtio.Features(0))
		ready(t, d, 1, "a")
		tell(t, d, 1, portOpen, 1)
		in := newInbox(t, d, rx(1), 1, 64)
		write(t, d, tx(1), []byte("hello"))
		in.want([]byte("hello"))
	}
	life()
	before := virtiotest.TakeFootprint(t)
	for range 1000 {
		life()
	}
	before.Holds(t)
}

func TestInvalidPortsAreRefused(t *testing.T) {
	conn, _ := net.Pipe()
	port := func(name string) console.Port { return console.Port{Name: name, Conn: conn} }
	for name, c := range map[string]struct {
		ports []console.Port
		want  string
	}{
		"none":        {nil, "0 ports"},
		"too many":    {make([]console.Port, console.MaxPorts+1), "31 ports"},
		"no name":     {[]console.Port{port("")}, "port 1: name"},
		"long name":   {[]console.Port{port(strings.Repeat("x", console.MaxName+1))}, "want 1 to 128 bytes"},
		"a path":      {[]console.Port{port("a/b")}, "want a file name"},
		"a folder":    {[]console.Port{port("..")}, "want a file name"},
		"a NUL":       {[]console.Port{port("a\x00")}, "want a file name"},
		"not ASCII":   {[]console.Port{port("ä")}, "want a file name"},
		"the same":    {[]console.Port{port("a"), port("a")}, `port 2: duplicate name "a"`},
		"nobody":      {[]console.Port{{Name: "a"}}, `port "a": no Conn`},
		"a line feed": {[]console.Port{port("a"), port("b\n")}, "port 2: name"},
	} {
		if _, err := console.New(c.ports); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestTheConfigurationCountsPort0(t *testing.T) {
	d := virtiotest.NewDriver(t, newDevice(t, echo("a"), echo("b")))
	var p [12]byte
	d.ReadConfig(p[:], 0)
	if got := binary.LittleEndian.Uint32(p[4:]); got != 3 {
		t.Errorf("max_nr_ports %d, want 3", got)
	}
	if got := d.NumQueues(); got != 8 {
		t.Errorf("%d queues, want 8", got)
	}
}

// 1 MiB each way at once, through rings of 64 entries, in chains of odd sizes.
func TestAMiBGoesBothWaysAtOnce(t *testing.T) {
	d, host, _ := one(t, true)
	there, back := noise(1<<20), noise(1<<20)
	slices.Reverse(back)

	var wg sync.WaitGroup
	defer wg.Wait()
	defer host.Close()
	wg.Go(func() { host.Write(back) })
	got := make([]byte, len(there))
	var gotErr error
	wg.Go(func() { _, gotErr = io.ReadFull(host, got) })

	in := newInbox(t, d, rx(1), 64, 1021)
	gpa, buf := d.Buffer(len(there))
	copy(buf, there)
	var sender sync.WaitGroup
	sender.Go(func() {
		r, free := d.Rings[tx(1)], 64
		for off := 0; off < len(there); {
			for ; free > 1 && off < len(there); free -= 2 {
				n := min(3001, len(there)-off)
				first := min(n, 1000)
				r.Add(queuetest.Desc{GPA: gpa, Len: uint32(first)}, queuetest.Desc{GPA: gpa + 1000, Len: uint32(n - first)})
				gpa += 3001
				off += n
			}
			r.Kick()
			if _, err := r.WaitUsed(testenv.Patience); err != nil {
				t.Error(err)
				return
			}
			free += 2
		}
	})
	in.want(back)
	sender.Wait()
	wg.Wait()
	if gotErr != nil || !bytes.Equal(got, there) {
		t.Errorf("the host received different data than the guest wrote: %v", gotErr)
	}
}

// A host that does not read blocks its port after one piece, but no other port.
func TestAHostThatDoesNotReadBlocksOnlyItsPort(t *testing.T) {
	device, host := net.Pipe()
	d := virtiotest.NewDriver(t, newDevice(t, console.Port{Name: "a", Conn: device}, echo("b")))
	d.Start(^virtio.Features(0))
	ready(t, d, 1, "a", "b")
	tell(t, d, 1, portOpen, 1)
	tell(t, d, 2, portOpen, 1)

	sent := noise(64 * 4096)
	for off := 0; off < len(sent); off += 4096 {
		put(d, tx(1), sent[off:off+4096])
	}
	in := newInbox(t, d, rx(2), 4, 700)
	for range 100 {
		write(t, d, tx(2), noise(5000))
		in.want(noise(5000))
	}
	if got := int(d.Rings[tx(1)].UsedIdx()); got > 32<<10/4096 {
		t.Errorf("%d chains of 4 KiB were consumed, but the host reads nothing", got)
	}

	// Data that was consumed before a reset arrives after it.
	var got []byte
	taken := 4096 * int(d.Rings[tx(1)].UsedIdx())
	d.Reset()
	d.Start(^virtio.Features(0))
	ready(t, d, 1, "a", "b")
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, _ = io.ReadAll(host)
	}()
	write(t, d, tx(1), []byte("the end"))
	d.Close()
	<-done
	if cut := bytes.TrimSuffix(got, []byte("the end")); len(got) < taken || !bytes.HasPrefix(sent, cut) {
		t.Errorf("the host received %d of %d consumed bytes, or different ones", len(cut), taken)
	}
}

// The device does not read from the host while no program in the guest has the port open, or while
// there is no receive buffer. No data from the host is lost in the meantime, whatever the driver
// does.
func TestNothingForTheGuestIsReadAheadOrLost(t *testing.T) {
	c := newConn()
	d := virtiotest.NewDriver(t, newDevice(t, console.Port{Name: "a", Conn: c}))
	for _, b := range []string{"one", "two", "three", "four", "five"} {
		c.pieces <- []byte(b)
	}
	reads := func(want int32) {
		t.Helper()
		if got := c.reads.Load(); got != want {
			t.Fatalf("Conn was read %d times, want %d", got, want)
		}
	}
	d.Start(^virtio.Features(0))
	ready(t, d, 1, "a")
	in := newInbox(t, d, rx(1), 4, 4)
	write(t, d, tx(1), nil) // other activity on the port must not cause a read
	reads(0)

	// One piece at a time, and no more than the buffers hold.
	tell(t, d, 1, portOpen, 1)
	for _, want := range []string{"one", "two", "thre", "e"} {
		if got := in.take(false); string(got) != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	gpa, b := d.Buffer(2)
	in.give(gpa, b)
	if got := in.take(false); string(got) != "fo" {
		t.Fatalf("%q, want %q", got, "fo")
	}
	reads(4)

	// If the port is closed with data left, the next program that opens it receives the data.
	tell(t, d, 1, portOpen, 0)
	in.give(gpa, b)
	d.Reset()
	reads(4)
	d.Start(^virtio.Features(0))
	ready(t, d, 1, "a")
	in = newInbox(t, d, rx(1), 4, 4096)
	tell(t, d, 1, portOpen, 1)
	in.want([]byte("urfive"))

	// A pending read survives resets, and its result is delivered once.
	for range 10 {
		d.Reset()
		d.Start(^virtio.Features(0))
		ready(t, d, 1, "a")
		tell(t, d, 1, portOpen, 1)
	}
	in = newInbox(t, d, rx(1), 4, 4096)
	c.pieces <- []byte("six")
	in.want([]byte("six"))
}

// Chains that are useless but valid are returned empty.
func TestUselessChainsComeBackEmpty(t *testing.T) {
	d, host, control := one(t, true)
	in := newInbox(t, d, rx(1), 0, 0)
	gpa, _ := d.Buffer(64)
	readable, writable, nothing := queuetest.Desc{GPA: gpa, Len: 64}, queuetest.Desc{GPA: gpa, Len: 64, Flags: queuetest.Write}, queuetest.Desc{GPA: gpa}

	go host.Write([]byte("hi"))
	for _, useless := range []queuetest.Desc{readable, nothing} {
		in.r.Add(useless)
		in.r.Kick()
		if u, err := in.r.WaitUsed(testenv.Patience); err != nil || u.Len != 0 {
			t.Errorf("receive queue: %+v, %v", u, err)
		}
	}
	in.give(d.Buffer(64))
	in.want([]byte("hi"))

	for _, q := range []int{tx(1), controlTx} {
		for _, useless := range []queuetest.Desc{writable, nothing} {
			d.Rings[q].Add(useless)
			d.Rings[q].Kick()
			if u, err := d.Rings[q].WaitUsed(testenv.Patience); err != nil || u.Len != 0 {
				t.Errorf("queue %d: %+v, %v", q, u, err)
			}
		}
	}

	// A buffer too small for a message: the message waits for the next buffer.
	for range 4 { // until the buffers from control are used up
		tell(t, d, 1, portReady, 1)
		control.take(false)
		control.take(false)
	}
	small := newInbox(t, d, controlRx, 0, 0)
	small.give(d.Buffer(7))
	tell(t, d, 1, portReady, 1)
	if got := small.take(false); len(got) != 0 {
		t.Errorf("a buffer of 7 bytes received %q", got)
	}
	small.give(d.Buffer(8)) // too small for a name
	small.give(d.Buffer(8))
	small.give(d.Buffer(9))
	for i, want := range [][]byte{packet(1, portOpen, 1), nil, append(packet(1, portName, 1), "a"...)} {
		if got := small.take(false); !bytes.Equal(got, want) {
			t.Errorf("message %d: %q, want %q", i, got, want)
		}
	}
}

func TestDataOfADriverWithoutMultiportIsDiscarded(t *testing.T) {
	c := newConn()
	d := virtiotest.NewDriver(t, newDevice(t, console.Port{Name: "a", Conn: c}))
	for _, features := range []virtio.Features{0, console.FeatureMultiport} {
		d.Start(features)
		for range 100 {
			write(t, d, 1, noise(1000))
		}
		d.Reset()
	}
	d.Start(0)
	for _, q := range []int{controlTx, tx(1)} {
		put(d, q, packet(0, deviceReady, 1))
		d.Rings[q].ForceKick()
	}
	write(t, d, 1, noise(1))
	d.Reset()
	if c.reads.Load() != 0 {
		t.Error("Conn was read")
	}
}

// count waits for an interrupt of queue q and returns the number of interrupts.
func count(t *testing.T, d *virtiotest.Driver, q int) uint64 {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(d.Call(q).FD()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, int(testenv.Patience.Milliseconds()))
		if n == 1 {
			break
		}
		if err != unix.EINTR {
			t.Fatalf("queue %d: no interrupt: %v", q, err)
		}
	}
	var b [8]byte
	if _, err := unix.Read(d.Call(q).FD(), b[:]); err != nil {
		t.Fatal(err)
	}
	return binary.NativeEndian.Uint64(b[:])
}

func TestABatchIsOneInterrupt(t *testing.T) {
	for _, features := range []virtio.Features{console.FeatureMultiport, console.FeatureMultiport | virtio.FeatureRingEventIdx} {
		c := newConn()
		c.writes = func(p []byte) (int, error) { return len(p), nil }
		d := virtiotest.NewDriver(t, newDevice(t, console.Port{Name: "a", Conn: c}))
		d.Start(features)
		ready(t, d, 1, "a")
		check := func(q int) {
			t.Helper()
			if n := count(t, d, q); n != 1 || d.Rings[q].UsedIdx() != 10 {
				t.Errorf("features %#x, queue %d: %d interrupts, used.idx %d, want 1 and 10", features, q, n, d.Rings[q].UsedIdx())
			}
		}
		gpa, _ := d.Buffer(64)
		for range 10 {
			d.Rings[rx(1)].Add(queuetest.Desc{GPA: gpa, Len: 64, Flags: queuetest.Write})
		}
		c.pieces <- noise(640)
		tell(t, d, 1, portOpen, 1)
		check(rx(1))

		d.Reset()
		d.Negotiate(features)
		d.SetUp()
		for range 10 {
			d.Rings[tx(1)].Add(queuetest.Desc{GPA: gpa, Len: 64})
		}
		d.Go()
		check(tx(1))
		d.Close()
	}
}
