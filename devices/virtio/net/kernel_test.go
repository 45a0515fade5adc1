package net

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
	"minivmm/vhost"
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

func TestVhostNetConforms(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	var n *nic
	virtiotest.TestDevice(t, func(t testing.TB) virtio.Device {
		n = openNIC(t)
		return n
	}, virtiotest.Suite{
		Traffic: func(t testing.TB, d *virtiotest.Driver) { n.traffic(t, d) },
		Hostile: txQueue,
		Shape:   txShape,
		Lives:   1000,
	})
}

// TestVhostNetOfTwoPairsConforms tests the same device with a control queue. One pair is active
// until the driver changes that, and after each reset.
func TestVhostNetOfTwoPairsConforms(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	var n *nic
	virtiotest.TestDevice(t, func(t testing.TB) virtio.Device {
		n = openNICPairs(t, 2)
		return n
	}, virtiotest.Suite{
		Traffic: func(t testing.TB, d *virtiotest.Driver) { n.traffic(t, d) },
		Hostile: txQueue,
		Shape:   txShape,
		Lives:   20,
	})
}

// TestPairsAreActivatedAndDeactivated uses the control queue with vhost-net: pairs, filter, and
// their state after a reset.
func TestPairsAreActivatedAndDeactivated(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	before := virtiotest.TakeFootprint(t)
	t.Run("live", func(t *testing.T) {
		const pairs = 3
		n := openNICPairs(t, pairs)
		d := virtiotest.NewDriver(t, n)
		for range 3 {
			d.Start(everything)
			if n.tap.attached != 1 {
				t.Fatalf("%d queues of the tap are attached initially", n.tap.attached)
			}
			for _, want := range []int{3, 1, 2, 3} {
				if command(t, d, 2*pairs, 4, 0, byte(want), 0) != answerOK || n.tap.attached != want {
					t.Fatalf("%d pairs: %d attached", want, n.tap.attached)
				}
				for k := range want {
					out := newFrame()
					transmitOn(t, d, 2*k+txQueue, out)
					n.wire.receive(out)
				}
			}
			if command(t, d, 2*pairs, 4, 0, 1, 0) != answerOK {
				t.Fatal("cannot go back to one pair")
			}
			// The kernel drops frames that the driver does not want.
			if command(t, d, 2*pairs, 0, 0, 0) != answerOK || !n.tap.filtered {
				t.Fatal("the filter was not set")
			}
			strange := newFrame()
			copy(strange, "\x02\x99\x99\x99\x99\x99")
			n.wire.send(strange)
			wanted := newFrame()
			copy(wanted, testMAC)
			for range 2 {
				receive(t, d, n.wire, wanted)
			}
			for _, b := range d.Memory.Regions() {
				if bytes.Contains(b.Bytes, strange) {
					t.Error("a frame for another station passed the filter")
				}
			}
			if command(t, d, 2*pairs, 0, 0, 1) != answerOK {
				t.Fatal("cannot enable promiscuous mode")
			}
			strange = newFrame()
			copy(strange, "\x02\x99\x99\x99\x99\x99")
			receive(t, d, n.wire, strange)
			if command(t, d, 2*pairs, 0, 0, 0) != answerOK || command(t, d, 2*pairs, 4, 0, 2, 0) != answerOK {
				t.Fatal("cannot set a filter and two pairs before the reset")
			}
			d.Reset()
			if n.tap.attached != 1 || n.tap.filtered {
				t.Errorf("after a reset %d queues are attached, filter %v", n.tap.attached, n.tap.filtered)
			}
		}
	})
	before.Holds(t)
}

// TestAGivenTapOfManyQueues opens existing taps of both kinds.
func TestAGivenTapOfManyQueues(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	for _, tc := range []struct {
		name   string
		multi  bool
		queues int
		want   string
	}{
		{"mvmtestm", true, 4, ""},
		{"mvmtestm", true, 1, ""},
		{"mvmtests", false, 1, ""},
		{"mvmtests", false, 2, "it has one queue, but the NIC needs 2: recreate it with \"ip tuntap del dev mvmtests mode tap\""},
	} {
		link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: tc.name}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR | netlink.TUNTAP_ONE_QUEUE}
		if tc.multi {
			link.Flags, link.Queues = netlink.TUNTAP_NO_PI|netlink.TUNTAP_VNET_HDR|netlink.TUNTAP_MULTI_QUEUE, 1
		}
		if err := netlink.LinkAdd(link); err != nil {
			t.Fatal(err)
		}
		for _, f := range link.Fds {
			f.Close()
		}
		func() {
			defer netlink.LinkDel(link)
			if got, err := TapIsMultiqueue(tc.name); got != tc.multi || err != nil {
				t.Errorf("%+v: multiqueue %v, %v", tc, got, err)
			}
			tap, err := OpenTap(TapConfig{Name: tc.name, Queues: tc.queues})
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("%+v: %v", tc, err)
				}
				return
			}
			if err != nil {
				t.Errorf("%+v: %v", tc, err)
				return
			}
			defer tap.Close()
			if _, err := OpenTap(TapConfig{Name: tc.name}); !errors.Is(err, unix.EBUSY) {
				t.Errorf("%+v: a second user: %v, want EBUSY", tc, err)
			}
			if err := errors.Join(tap.setQueues(tc.queues), tap.setFilter(Filter{On: true})); err != nil || tap.filtered {
				t.Errorf("%+v: %v, filtered %v", tc, err, tap.filtered)
			}
		}()
	}
}

// TestABadRingIsReportedOnceAndHurtsNobodyElse breaks one of two devices, on each of its queues,
// while the other keeps working.
func TestABadRingIsReportedOnceAndHurtsNobodyElse(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	bad, good := openNIC(t), openNIC(t)
	b, g := virtiotest.NewDriver(t, bad), virtiotest.NewDriver(t, good)
	g.Start(everything)
	for _, tc := range []struct {
		name  string
		queue int
		chain queuetest.Desc
		after func(w wire) // makes the worker read the ring
	}{
		{"transmit", txQueue, queuetest.Desc{GPA: 1 << 40, Len: 100}, func(wire) {}},
		{"transmit, writable", txQueue, queuetest.Desc{GPA: virtiotest.BufferBase, Len: 100, Flags: queuetest.Write}, func(wire) {}},
		{"transmit, empty", txQueue, queuetest.Desc{GPA: virtiotest.BufferBase}, func(wire) {}},
		{"receive", rxQueue, queuetest.Desc{GPA: 1 << 40, Len: 2048, Flags: queuetest.Write}, func(w wire) { w.send(newFrame()) }},
		{"receive, readable", rxQueue, queuetest.Desc{GPA: virtiotest.BufferBase, Len: 2048}, func(w wire) { w.send(newFrame()) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad.failed.Store(0)
			b.Start(everything)
			bad.traffic(t, b)
			b.Rings[tc.queue].Add(tc.chain)
			b.Rings[tc.queue].ForceKick()
			tc.after(bad.wire)
			if err := b.WaitNeedsReset(); err != nil {
				t.Error(err)
			}
			for range 10 {
				b.Rings[tc.queue].ForceKick()
				good.traffic(t, g)
			}
			if s := g.Status(); s&virtio.StatusNeedsReset != 0 {
				t.Errorf("status %#x of the intact device", s)
			}
			b.Reset()
			if n := bad.failed.Load(); n != 1 {
				t.Errorf("failed %d times, want once", n)
			}
			b.Start(everything)
			bad.traffic(t, b)
			b.Reset()
		})
	}
}

// TestAWorkerThatSpinsIsStopped sends vhost-net a frame that is shorter than its header. The worker
// retries it forever and reports nothing (handle_tx_copy in drivers/vhost/net.c). The CPU time
// counts as the guest's, and the next reset ends it.
func TestAWorkerThatSpinsIsStopped(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	bad, good := openNIC(t), openNIC(t)
	b, g := virtiotest.NewDriver(t, bad), virtiotest.NewDriver(t, good)
	g.Start(everything)
	for range 3 {
		b.Start(everything)
		b.Rings[txQueue].Add(queuetest.Desc{GPA: virtiotest.BufferBase, Len: headerBytes - 1})
		b.Rings[txQueue].ForceKick()
		receive(t, b, bad.wire, newFrame())
		good.traffic(t, g)
		b.Reset()
		b.Start(everything)
		bad.traffic(t, b)
		b.Reset()
	}
}

const everything = ^virtio.Features(0)

// TestTheKernelTakesTheOffloadsOfEachFeatureSet tries every set of offloads that a driver can
// receive.
func TestTheKernelTakesTheOffloadsOfEachFeatureSet(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	n := openNIC(t)
	defer n.Close()
	bits := []virtio.Features{FeatureGuestCsum, FeatureGuestTSO4, FeatureGuestTSO6, FeatureGuestECN, FeatureGuestUSO4 | FeatureGuestUSO6}
	for set := range 1 << len(bits) {
		var f virtio.Features
		for i, b := range bits {
			if set>>i&1 != 0 {
				f |= b
			}
		}
		if err := n.tap.setOffloads(f & n.Features()); err != nil {
			t.Errorf("features %#x: %v", uint64(f), err)
		}
	}
}

func TestANewTapHasTheRequestedSettings(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	tap, err := OpenTap(TapConfig{NewName: "mvmtest%d", Address: netip.MustParsePrefix("10.99.7.1/24"), MTU: 9000})
	if err != nil {
		t.Fatal(err)
	}
	iface, err := net.InterfaceByName(tap.name)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := iface.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	if iface.MTU != 9000 || iface.Flags&net.FlagUp == 0 || !slices.ContainsFunc(addrs, func(a net.Addr) bool { return a.String() == "10.99.7.1/24" }) {
		t.Errorf("%+v, addresses %v", iface, addrs)
	}
	if _, err := OpenTap(TapConfig{Name: tap.name}); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "another program") {
		t.Errorf("a tap that is in use: %v", err)
	}
	if err := tap.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.InterfaceByName(iface.Name); err == nil {
		t.Errorf("%s outlives its descriptor", iface.Name)
	}
}

// TestAFailedTapLeavesNothing requests invalid settings that fail late in the creation of a tap.
func TestAFailedTapLeavesNothing(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	before := virtiotest.TakeFootprint(t)
	for _, tc := range []struct {
		cfg  TapConfig
		want string
	}{
		{TapConfig{NewName: "mvmtest7", Bridge: "nosuchbridge"}, "bridge nosuchbridge"},
		{TapConfig{NewName: "mvmtest7", MTU: 1 << 30}, "set mtu"},
		{TapConfig{NewName: "a-name-that-is-too-long"}, "tap name"},
	} {
		if _, err := OpenTap(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.cfg, err, tc.want)
		}
		if _, err := os.Stat("/sys/class/net/mvmtest7"); err == nil {
			t.Errorf("%+v: the tap is still there", tc.cfg)
		}
	}
	before.Holds(t)
}

// TestManyNICs runs as many NICs as a host may have, at the same time.
func TestManyNICs(t *testing.T) {
	testenv.Need(t, "root", "vhost-net")
	const count = 16
	before := virtiotest.TakeFootprint(t)
	t.Run("live", func(t *testing.T) {
		var nics []*nic
		var drivers []*virtiotest.Driver
		for range count {
			n := openNIC(t)
			d := virtiotest.NewDriver(t, n)
			d.Start(everything)
			nics, drivers = append(nics, n), append(drivers, d)
		}
		virtiotest.AwaitWorkers(t, before.Workers+count)
		for i, d := range drivers {
			t.Run(fmt.Sprint(i), func(t *testing.T) { nics[i].traffic(t, d) })
		}
	})
	before.Holds(t)
}
