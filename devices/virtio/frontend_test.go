package virtio_test

import (
	"errors"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"minivmm/devices/guestmem"
	"minivmm/devices/virtio"
)

func TestADriverThatFollowsTheSpecActivatesTheDevice(t *testing.T) {
	b := newBench(t, recorder())
	features := virtio.FeatureVersion1 | virtio.FeatureRingEventIdx
	if got := b.negotiate(features); got != ready {
		t.Fatalf("status %#x after FEATURES_OK, want %#x", got, ready)
	}
	b.enable(goodQueue(0))
	b.enable(goodQueue(2))
	if got := b.status(live); got != live {
		t.Fatalf("status %#x after DRIVER_OK, want %#x; log %q", got, live, b.lines)
	}
	got := b.dev.Activations()
	if len(got) != 1 {
		t.Fatalf("%d activations, want 1", len(got))
	}
	a := got[0]
	if a.Features != features || a.Memory == nil || len(a.Queues) != 2 {
		t.Fatalf("activation %+v, want features %#x and queues 0 and 2", a, features)
	}
	for i, index := range []uint16{0, 2} {
		want := goodQueue(index)
		want.Kick, want.Call = b.Kick(int(index)), b.Call(int(index))
		if a.Queues[i] != want {
			t.Errorf("queue %d: %+v, want %+v", index, a.Queues[i], want)
		}
	}
	if got := b.status(0); got != 0 || b.dev.Running() {
		t.Fatalf("status %#x, running %t after reset", got, b.dev.Running())
	}
	if b.config != 0 || len(b.lines) != 0 {
		t.Errorf("%d config interrupts and log %q, want none", b.config, b.lines)
	}
}

func TestFeaturesAreAcceptedOnlyWhenOfferedAndModern(t *testing.T) {
	const accessPlatform, ringReset = 1 << 33, 1 << 40 // VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_RESET
	dev := recorder()
	dev.Offers = 1<<5 | 1<<63 | virtio.FeatureRingIndirectDesc | ringReset | accessPlatform | 1<<24 | 1<<34
	b := newBench(t, dev)
	var offered virtio.Features
	for sel := range uint32(4) {
		b.Write(virtio.DeviceFeatureSelect, sel)
		v := b.Read(virtio.DeviceFeature)
		if sel > 1 && v != 0 {
			t.Errorf("features at select %d: %#x, want 0", sel, v)
			continue
		}
		if sel < 2 {
			offered |= virtio.Features(v) << (32 * sel)
		}
	}
	if want := 1<<5 | 1<<63 | virtio.FeatureRingIndirectDesc | virtio.FeatureVersion1; offered != want {
		t.Fatalf("offered %#x, want %#x", offered, want)
	}
	for _, c := range []struct {
		features virtio.Features
		ok       bool
	}{
		{virtio.FeatureVersion1, true},
		{offered, true},
		{0, false},
		{1 << 5, false},
		{offered | 1<<6, false},
		{offered | ringReset, false},
		{offered | virtio.FeatureRingEventIdx, false},
	} {
		want := ack | driver
		if c.ok {
			want = ready
		}
		if got := b.negotiate(c.features); got != want {
			t.Errorf("features %#x: status %#x, want %#x", c.features, got, want)
		}
	}
}

func TestARejectedRingIsNeverActivated(t *testing.T) {
	huge := guestmem.GPA(1 << 63)
	for name, breakIt := range map[string]func(q *virtio.Queue){
		"size 0":                        func(q *virtio.Queue) { q.Size = 0 },
		"size 3":                        func(q *virtio.Queue) { q.Size = 3 },
		"size above the maximum":        func(q *virtio.Queue) { q.Size = 512 },
		"descriptors misaligned":        func(q *virtio.Queue) { q.Desc += 8 },
		"driver ring misaligned":        func(q *virtio.Queue) { q.Driver++ },
		"device ring misaligned":        func(q *virtio.Queue) { q.Device += 2 },
		"descriptors in the hole":       func(q *virtio.Queue) { q.Desc = 0x10000 },
		"descriptors into the hole":     func(q *virtio.Queue) { q.Desc = 0x10000 - 16*64 + 16 },
		"device ring over two regions":  func(q *virtio.Queue) { q.Device = 0x30000 - 8 },
		"device ring beyond RAM":        func(q *virtio.Queue) { q.Device = 0x34000 },
		"device ring two bytes too far": func(q *virtio.Queue) { q.Device = 0x34000 - 516 },
		"driver ring wraps":             func(q *virtio.Queue) { q.Driver = ^guestmem.GPA(0) - 1 },
		"device ring far away":          func(q *virtio.Queue) { q.Device = huge },
		"rings on each other":           func(q *virtio.Queue) { q.Driver = q.Desc },
		"rings touch by two bytes":      func(q *virtio.Queue) { q.Device = q.Driver + 6 + 2*64 - 2 },
		"on another queue":              func(q *virtio.Queue) { q.Device = goodQueue(1).Desc + 16 },
		"addresses never written":       func(q *virtio.Queue) { q.Desc, q.Driver, q.Device = 0, 0, 0 },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, recorder())
			b.negotiate(virtio.FeatureVersion1)
			q := goodQueue(0)
			breakIt(&q)
			b.enable(goodQueue(1))
			b.enable(q)
			if got, want := b.status(live), live|needsReset; got != want {
				t.Fatalf("status %#x, want %#x", got, want)
			}
			if n := len(b.dev.Activations()); n != 0 {
				t.Fatalf("%d activations, want none", n)
			}
			if len(b.lines) != 1 || b.config != 1 {
				t.Errorf("log %q and %d config interrupts, want one of each", b.lines, b.config)
			}
		})
	}
}

// goodRing is a second implementation of the frontend's rule, without wrap-around: a ring is good
// if every part is aligned, lies in one region and overlaps no other part.
func goodRing(q virtio.Queue) bool {
	if q.Size == 0 || q.Size > 256 || big.NewInt(int64(q.Size)).ProbablyPrime(1) && q.Size != 2 || q.Size&(q.Size-1) != 0 {
		return false
	}
	n := int64(q.Size)
	type span struct{ from, to *big.Int }
	var spans []span
	for _, p := range []struct {
		gpa         guestmem.GPA
		size, align int64
	}{{q.Desc, 16 * n, 16}, {q.Driver, 6 + 2*n, 2}, {q.Device, 6 + 8*n, 4}} {
		from := new(big.Int).SetUint64(uint64(p.gpa))
		to := new(big.Int).Add(from, big.NewInt(p.size))
		if new(big.Int).Mod(from, big.NewInt(p.align)).Sign() != 0 {
			return false
		}
		inside := false
		for _, r := range ram {
			end := new(big.Int).SetUint64(uint64(r.GPA) + r.SizeBytes)
			inside = inside || from.Cmp(new(big.Int).SetUint64(uint64(r.GPA))) >= 0 && to.Cmp(end) <= 0
		}
		if !inside {
			return false
		}
		for _, s := range spans {
			if from.Cmp(s.to) < 0 && s.from.Cmp(to) < 0 {
				return false
			}
		}
		spans = append(spans, span{from, to})
	}
	return true
}

func TestRingsAreAcceptedExactlyWhenTheModelSaysSo(t *testing.T) {
	b := newBench(t, recorder())
	rnd := rand.New(rand.NewPCG(1, 2))
	edges := []uint64{0, 0x10000, 0x20000, 0x30000, 0x34000, 1 << 32, 1 << 63, 0}
	address := func() guestmem.GPA {
		a := edges[rnd.IntN(len(edges))]
		switch rnd.IntN(4) {
		case 0:
			a += uint64(rnd.IntN(0x4000))
		case 1:
			a -= uint64(rnd.IntN(0x4000))
		}
		if rnd.IntN(8) > 0 {
			a &^= 15
		}
		return guestmem.GPA(a)
	}
	good := 0
	for i := range 10000 {
		q := virtio.Queue{Size: 1 << rnd.IntN(10), Desc: address(), Driver: address(), Device: address()}
		b.negotiate(virtio.FeatureVersion1)
		b.enable(q)
		before := len(b.dev.Activations())
		status := b.status(live)
		activated := len(b.dev.Activations()) == before+1
		want := goodRing(q)
		if activated != want || (status&needsReset == 0) != want {
			t.Fatalf("case %d: %+v: activated %t, status %#x; the model says %t", i, q, activated, status, want)
		}
		if want {
			good++
		}
	}
	if good < 300 {
		t.Errorf("only %d good rings: the test covers too little", good)
	}
}

func TestQueueRegistersAreFrozenFromDriverOKToReset(t *testing.T) {
	b := newBench(t, recorder())
	b.negotiate(virtio.FeatureVersion1)
	for i := range uint16(3) {
		b.enable(goodQueue(i))
	}
	b.status(live)
	var before []uint32
	registers := func() (values []uint32) {
		for i := range 3 {
			b.Write(virtio.QueueSelect, uint32(i))
			for r := virtio.QueueSize; r <= virtio.QueueDeviceHigh; r++ {
				values = append(values, b.Read(r))
			}
		}
		return append(values, b.Read(virtio.DriverFeature))
	}
	before = registers()
	for i := range 3 {
		b.Write(virtio.QueueSelect, uint32(i))
		for r := virtio.QueueSize; r <= virtio.QueueDeviceHigh; r++ {
			b.Write(r, 0xbad0)
		}
		b.Write(virtio.DriverFeature, 0xbad0)
		b.status(live)
		b.status(ready)
	}
	for i, after := range registers() {
		if after != before[i] {
			t.Errorf("register %d: %#x, was %#x", i, after, before[i])
		}
	}
	if n := len(b.dev.Activations()); n != 1 {
		t.Errorf("%d activations, want 1", n)
	}
	b.status(0)
	for _, c := range []struct {
		r    virtio.Register
		want uint32
	}{{virtio.QueueSize, 256}, {virtio.QueueEnable, 0}, {virtio.QueueDescLow, 0}, {virtio.QueueDeviceHigh, 0}, {virtio.QueueSelect, 0}} {
		if got := b.Read(c.r); got != c.want {
			t.Errorf("%v is %#x after reset, want %#x", c.r, got, c.want)
		}
	}
}

func TestARefusedActivationShowsNeedsResetAndTheNextOneMayWork(t *testing.T) {
	b := newBench(t, recorder())
	b.dev.Refuses = errors.New("no workers left")
	b.negotiate(virtio.FeatureVersion1)
	b.enable(goodQueue(0))
	if got, want := b.status(live), live|needsReset; got != want {
		t.Fatalf("status %#x, want %#x", got, want)
	}
	if len(b.lines) != 1 || !strings.Contains(b.lines[0], "test0: device needs reset: activate: no workers left") {
		t.Errorf("log %q", b.lines)
	}
	b.dev.Refuses = nil
	b.negotiate(virtio.FeatureVersion1)
	b.enable(goodQueue(0))
	if got := b.status(live); got != live {
		t.Errorf("status %#x, want %#x", got, live)
	}
}

func TestFailedIsReportedOncePerActivationAndNeverLate(t *testing.T) {
	b := newBench(t, recorder())
	b.negotiate(virtio.FeatureVersion1)
	b.enable(goodQueue(0))
	b.status(live)
	a := b.dev.Activations()[0]
	for range 3 {
		a.Failed(errors.New("ring is bad"))
	}
	if got, want := virtio.Status(b.Read(virtio.DeviceStatus)), live|needsReset; got != want {
		t.Errorf("status %#x, want %#x", got, want)
	}
	if len(b.lines) != 1 || b.config != 1 {
		t.Errorf("log %q and %d config interrupts, want one of each", b.lines, b.config)
	}
	for range 2 { // a is a failed activation, then one that did not fail
		b.status(0)
		a.Failed(errors.New("from the past"))
		b.negotiate(virtio.FeatureVersion1)
		b.enable(goodQueue(0))
		a.Failed(errors.New("from the past"))
		if got := b.status(live); got != live {
			t.Errorf("status %#x, want %#x", got, live)
		}
		activations := b.dev.Activations()
		a = activations[len(activations)-1]
	}
	if len(b.lines) != 1 || b.config != 1 {
		t.Errorf("log %q and %d config interrupts, want no more of either", b.lines, b.config)
	}
}

func TestADeviceThatCannotStopAcceptsNoDriver(t *testing.T) {
	b := newBench(t, recorder())
	b.dev.Sticks = errors.New("worker does not stop")
	for range 5 {
		if got, want := b.negotiate(virtio.FeatureVersion1), ack|driver; got != want {
			t.Errorf("status %#x, want %#x", got, want)
		}
	}
	if len(b.lines) != 1 {
		t.Errorf("log %q, want one line", b.lines)
	}
	b.dev.Sticks = nil
	if got := b.negotiate(virtio.FeatureVersion1); got != ready {
		t.Errorf("status %#x, want %#x", got, ready)
	}
}

func TestAGuestCannotFillTheLog(t *testing.T) {
	b := newBench(t, recorder())
	b.dev.Refuses = errors.New("no")
	for range 1000 {
		b.negotiate(virtio.FeatureVersion1)
		b.status(live)
	}
	if len(b.lines) > 20 {
		t.Errorf("%d lines for 1000 failed activations", len(b.lines))
	}
}

func TestConfigChangesAdvanceTheGenerationAndInterrupt(t *testing.T) {
	b := newBench(t, recorder())
	b.negotiate(virtio.FeatureVersion1)
	b.status(live)
	before := b.Read(virtio.ConfigGeneration)
	b.dev.Activations()[0].ConfigChanged()
	if after := b.Read(virtio.ConfigGeneration); after == before || b.config != 1 {
		t.Errorf("generation %d, was %d; %d config interrupts", after, before, b.config)
	}
}

func TestNoQueueIsSelectedBeyondTheLast(t *testing.T) {
	b := newBench(t, recorder())
	b.negotiate(virtio.FeatureVersion1)
	for sel := range uint32(1 << 16) {
		b.Write(virtio.QueueSelect, sel)
		if got := b.Read(virtio.QueueSelect); got != sel {
			t.Fatalf("queue_select %#x reads back %#x", sel, got)
		}
		if sel < 3 {
			continue
		}
		for r := virtio.QueueSize; r <= virtio.QueueDeviceHigh; r++ {
			b.Write(r, 1)
			if got := b.Read(r); got != 0 {
				t.Fatalf("queue_select %#x: %v reads %#x, want 0", sel, r, got)
			}
		}
	}
	b.Write(virtio.QueueSelect, 2)
	if got := b.Read(virtio.QueueSize); got != 64 {
		t.Errorf("queue 2 has size %d, want 64", got)
	}
}

func TestCloseTwiceClosesTheDeviceOnce(t *testing.T) {
	b := newBench(t, recorder())
	b.negotiate(virtio.FeatureVersion1)
	b.status(live)
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.status(0)
	b.negotiate(virtio.FeatureVersion1)
	b.status(live)
	if b.dev.Closes() != 1 || b.dev.Running() {
		t.Errorf("%d closes, running %t", b.dev.Closes(), b.dev.Running())
	}
}

func TestBadQueueSizesAreReported(t *testing.T) {
	for _, sizes := range [][]uint16{{0}, {3}, {256, 100}, {0xffff}, make([]uint16, 1025)} {
		dev := recorder()
		dev.Sizes = sizes
		if f, err := virtio.NewFrontend(dev, memory(t), virtio.Options{Name: "test0"}); err == nil {
			f.Close()
			t.Errorf("sizes %v: no error", sizes)
		}
	}
}
