package net

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

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
