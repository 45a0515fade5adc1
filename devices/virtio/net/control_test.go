package net

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/queue/queuetest"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// fakePairs is a backend with several pairs that records the calls it gets.
type fakePairs struct {
	fakeBackend
	mu      sync.Mutex
	started int // number of queues
	pairs   int
	filter  Filter
	filters int   // number of calls of SetFilter
	fail    error // returned by the next calls
}

func (b *fakePairs) Features() virtio.Features {
	return virtio.FeatureRingIndirectDesc | virtio.FeatureRingEventIdx
}

func (b *fakePairs) Start(a virtio.Activation) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.started, b.pairs, b.filter = len(a.Queues), 1, Filter{}
	return b.fakeBackend.Start(a)
}

func (b *fakePairs) SetPairs(n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == nil {
		b.pairs = n
	}
	return b.fail
}

func (b *fakePairs) SetFilter(f Filter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.filters++
	if b.fail == nil {
		b.filter = f
	}
	return b.fail
}

func (b *fakePairs) failWith(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = err
}

// state returns the backend's state as text, for comparison.
func (b *fakePairs) state() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprintf("%d of %d, %v %x %x %v", b.pairs, b.started/2, b.filter.On, b.filter.Unicast, b.filter.Multicast, b.filter.AllMulticast)
}

func openPairs(t testing.TB, pairs int) (*Device, *fakePairs) {
	t.Helper()
	b := &fakePairs{}
	d, err := New(Config{MAC: testMAC, QueueSize: 64, Pairs: pairs}, b)
	if err != nil {
		t.Fatal(err)
	}
	return d, b
}

// command sends a command through queue q and returns the answer.
func command(t testing.TB, d *virtiotest.Driver, q int, p ...byte) byte {
	t.Helper()
	out, b := d.Buffer(max(len(p), 1))
	copy(b, p)
	in, answer := d.Buffer(1)
	answer[0] = 0xa5
	r := d.Rings[q]
	chain := []queuetest.Desc{{GPA: out, Len: uint32(len(p))}, {GPA: in, Len: 1, Flags: queuetest.Write}}
	if len(p) > 2 { // Linux sends the header in a separate descriptor
		chain = []queuetest.Desc{{GPA: out, Len: 2}, {GPA: out + 2, Len: uint32(len(p) - 2)}, chain[1]}
	}
	r.Add(chain...)
	r.Kick()
	if u, err := r.WaitUsed(testenv.Patience); err != nil || u.Len != 1 {
		t.Fatalf("command % x: %+v, %v", p, u, err)
	}
	return answer[0]
}

func configMAC(d virtio.Device) string {
	var mac [6]byte
	d.ReadConfig(mac[:], 0)
	return fmt.Sprintf("%x", mac)
}

// macTable returns the data of MAC_TABLE_SET.
func macTable(tables ...[][6]byte) []byte {
	var p []byte
	for _, table := range tables {
		p = binary.LittleEndian.AppendUint32(p, uint32(len(table)))
		for _, a := range table {
			p = append(p, a[:]...)
		}
	}
	return p
}

func addresses(first byte, n int) (table [][6]byte) {
	for i := range n {
		table = append(table, [6]byte{first, 0, 0, 0, 1, byte(i)})
	}
	return table
}

func TestControlQueue(t *testing.T) {
	dev, b := openPairs(t, 4)
	d := virtiotest.NewDriver(t, dev)
	d.Start(everything)
	if !d.Features.Has(controlFeatures) || d.NumQueues() != 9 {
		t.Fatalf("features %#x, %d queues", d.Features, d.NumQueues())
	}
	const mac, mac2 = "021122334455", "02aaaaaaaaaa"
	for i, tc := range []struct {
		command []byte
		answer  byte
		state   string
		mac     string
	}{
		{[]byte{4, 0, 4, 0}, answerOK, "4 of 4, false [] [] false", mac},
		{[]byte{4, 0, 0, 0}, answerErr, "4 of 4, false [] [] false", mac},
		{[]byte{4, 0, 5, 0}, answerErr, "4 of 4, false [] [] false", mac},
		{[]byte{4, 0, 2, 1}, answerErr, "4 of 4, false [] [] false", mac},
		{[]byte{4, 0, 2}, answerErr, "4 of 4, false [] [] false", mac},
		{[]byte{4, 0, 2, 0, 0}, answerErr, "4 of 4, false [] [] false", mac},
		{[]byte{4, 0}, answerErr, "4 of 4, false [] [] false", mac},
		{[]byte{4}, answerErr, "4 of 4, false [] [] false", mac},
		{nil, answerErr, "4 of 4, false [] [] false", mac},
		{[]byte{4, 0, 2, 0}, answerOK, "2 of 4, false [] [] false", mac},
		{[]byte{4, 1, 2, 0}, answerErr, "2 of 4, false [] [] false", mac},             // RSS_CONFIG
		{[]byte{2, 0, 1, 0}, answerErr, "2 of 4, false [] [] false", mac},             // VLAN_ADD
		{[]byte{3, 0}, answerErr, "2 of 4, false [] [] false", mac},                   // ANNOUNCE_ACK
		{[]byte{5, 0, 0, 0, 0, 0, 0, 0}, answerErr, "2 of 4, false [] [] false", mac}, // GUEST_OFFLOADS
		{[]byte{0, 2, 1}, answerErr, "2 of 4, false [] [] false", mac},                // RX_ALLUNI: of RX_EXTRA
		{[]byte{1, 1, 2, 0xaa, 0xaa, 0xaa, 0xaa}, answerErr, "2 of 4, false [] [] false", mac},
		{[]byte{1, 1, 2, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa}, answerOK, "2 of 4, false [] [] false", mac2},
		{[]byte{0, 0, 0}, answerOK, "2 of 4, true [02aaaaaaaaaa] [] false", mac2},
		{[]byte{0, 0, 2}, answerErr, "2 of 4, true [02aaaaaaaaaa] [] false", mac2},
		{[]byte{0, 0}, answerErr, "2 of 4, true [02aaaaaaaaaa] [] false", mac2},
		{[]byte{0, 1, 1}, answerOK, "2 of 4, true [02aaaaaaaaaa] [] true", mac2},
		{[]byte{0, 1, 0}, answerOK, "2 of 4, true [02aaaaaaaaaa] [] false", mac2},
		{append([]byte{1, 0}, macTable(addresses(2, 1), addresses(1, 2))...), answerOK, "2 of 4, true [02aaaaaaaaaa 020000000100] [010000000100 010000000101] false", mac2},
		{append([]byte{1, 0}, macTable(addresses(2, 1))...), answerErr, "2 of 4, true [02aaaaaaaaaa 020000000100] [010000000100 010000000101] false", mac2},
		{append([]byte{1, 0}, macTable(nil, nil, nil)...), answerErr, "2 of 4, true [02aaaaaaaaaa 020000000100] [010000000100 010000000101] false", mac2},
		{[]byte{1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, answerErr, "2 of 4, true [02aaaaaaaaaa 020000000100] [010000000100 010000000101] false", mac2},
		{[]byte{1, 0, 0, 0, 0, 0, 1, 0, 0, 0}, answerErr, "2 of 4, true [02aaaaaaaaaa 020000000100] [010000000100 010000000101] false", mac2},
		{[]byte{0, 0, 1}, answerOK, "2 of 4, false [] [] false", mac2},
		{[]byte{0, 0, 0}, answerOK, "2 of 4, true [02aaaaaaaaaa 020000000100] [010000000100 010000000101] false", mac2},
		{append([]byte{1, 0}, macTable(nil, nil)...), answerOK, "2 of 4, true [02aaaaaaaaaa] [] false", mac2},
	} {
		if got := command(t, d, 8, tc.command...); got != tc.answer || b.state() != tc.state || configMAC(dev) != tc.mac {
			t.Errorf("%d: % x: answer %d, %s, MAC %s; want %d, %s, %s", i, tc.command, got, b.state(), configMAC(dev), tc.answer, tc.state, tc.mac)
		}
	}

	// A command that fails on the host gets an error and changes nothing.
	before := b.state()
	b.failWith(errors.New("no"))
	for _, p := range [][]byte{{4, 0, 1, 0}, {0, 0, 1}, {1, 1, 2, 0, 0, 0, 0, 0}, append([]byte{1, 0}, macTable(nil, addresses(1, 1))...)} {
		if got := command(t, d, 8, p...); got != answerErr || b.state() != before || configMAC(dev) != mac2 {
			t.Errorf("% x with a failing backend: answer %d, %s", p, got, b.state())
		}
	}
	b.failWith(nil)

	// A reset restores the initial state.
	d.Reset()
	if got := configMAC(dev); got != mac {
		t.Errorf("MAC %s after reset", got)
	}
	d.Start(everything)
	if got, want := b.state(), "1 of 4, false [] [] false"; got != want {
		t.Errorf("after reset %s, want %s", got, want)
	}
	if command(t, d, 8, 4, 0, 4, 0) != answerOK {
		t.Error("the control queue does not work after a reset")
	}

	// A command without room for the answer breaks the queue.
	gpa, _ := d.Buffer(4)
	d.Rings[8].Add(queuetest.Desc{GPA: gpa, Len: 4})
	d.Rings[8].ForceKick()
	if err := d.WaitNeedsReset(); err != nil {
		t.Error(err)
	}
}

// TestTheControlQueueDependsOnTheFeatures tests virtio 1.2 §5.1.2: without MQ the control queue is
// queue 2, and there is only one pair.
func TestTheControlQueueDependsOnTheFeatures(t *testing.T) {
	dev, b := openPairs(t, 2)
	d := virtiotest.NewDriver(t, dev)
	d.Start(everything &^ FeatureMQ)
	if got := command(t, d, 2, 1, 1, 2, 0, 0, 0, 0, 7); got != answerOK || configMAC(dev) != "020000000007" {
		t.Errorf("answer %d, MAC %s", got, configMAC(dev))
	}
	if got := command(t, d, 2, 4, 0, 1, 0); got != answerErr {
		t.Errorf("pairs without MQ: %d", got)
	}
	if got, want := b.state(), "1 of 1, false [] [] false"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	d.Reset()
	d.Start(FeatureMQ | FeatureCtrlVQ)
	for _, p := range [][]byte{{0, 0, 1}, {1, 1, 2, 0, 0, 0, 0, 7}, append([]byte{1, 0}, macTable(nil, nil)...)} {
		if command(t, d, 4, p...) != answerErr {
			t.Errorf("% x was accepted without its feature", p)
		}
	}
	d.Reset()
	d.Start(FeatureMQ)
	if b.started != 4 {
		t.Errorf("%d queues without control, want 4", b.started)
	}
}

func TestPairsAreWholeAndInOrder(t *testing.T) {
	dev, b := openPairs(t, 2)
	for _, tc := range []struct {
		queues []uint16
		ok     bool
	}{
		{[]uint16{0, 1}, true},
		{[]uint16{0, 1, 2, 3}, true},
		{[]uint16{0, 1, 2}, false},
		{[]uint16{0, 1, 3}, false},
		{[]uint16{2, 3}, false},
		{[]uint16{0, 2, 3}, false},
		{nil, false},
	} {
		a := virtio.Activation{Features: FeatureMQ}
		for _, i := range tc.queues {
			a.Queues = append(a.Queues, virtio.Queue{Index: i})
		}
		if err := dev.Activate(a); (err == nil) != tc.ok || b.running != tc.ok {
			t.Errorf("queues %v: %v, running %v", tc.queues, err, b.running)
		}
		if err := dev.Reset(); err != nil || b.running {
			t.Errorf("queues %v: reset: %v", tc.queues, err)
		}
	}
}

func TestPairsNeedABackendThatHasThem(t *testing.T) {
	for _, tc := range []struct {
		pairs   int
		backend virtio.Backend
		ok      bool
	}{
		{0, &fakeBackend{}, true}, {1, &fakeBackend{}, true}, {2, &fakeBackend{}, false},
		{1, &fakePairs{}, true}, {MaxPairs, &fakePairs{}, true}, {MaxPairs + 1, &fakePairs{}, false},
	} {
		d, err := New(Config{MAC: testMAC, QueueSize: 64, Pairs: tc.pairs}, tc.backend)
		if (err == nil) != tc.ok {
			t.Errorf("%d pairs over %T: %v", tc.pairs, tc.backend, err)
		}
		if err == nil && tc.pairs <= 1 && (d.Features()&controlFeatures != 0 || len(d.QueueSizes()) != 2) {
			t.Errorf("one pair: features %#x, queues %v", d.Features(), d.QueueSizes())
		}
	}
}

// FuzzControl sends arbitrary bytes to the control queue, split into two buffers. Only a known
// command of the right length is accepted, and the values passed to the backend are within bounds.
func FuzzControl(f *testing.F) {
	f.Add(uint8(2), []byte{4, 0, 2, 0})
	f.Add(uint8(1), []byte{0, 0, 1})
	f.Add(uint8(7), append([]byte{1, 0}, macTable(addresses(2, 3), addresses(1, 2))...))
	f.Add(uint8(2), []byte{1, 1, 2, 0, 0, 0, 0, 9})
	f.Add(uint8(0), append([]byte{1, 0}, macTable(addresses(2, 80), addresses(1, 80))...))
	f.Fuzz(func(t *testing.T, cut uint8, p []byte) {
		b := &fakePairs{pairs: 1}
		d, err := New(Config{MAC: testMAC, QueueSize: 64, Pairs: 4}, b)
		if err != nil {
			t.Fatal(err)
		}
		c := newController(d, b, 3, controlFeatures)
		original := bytes.Clone(p)
		n := min(int(cut), len(p))
		if !c.do(&queue.Buffers{p[:n], p[n:]}) {
			if b.pairs != 1 || b.filter.On || configMAC(d) != "021122334455" {
				t.Fatalf("% x was rejected but changed something", p)
			}
			return
		}
		if !bytes.Equal(p, original) {
			t.Fatal("the command buffer was modified")
		}
		known := map[[2]byte]int{{4, 0}: 4, {0, 0}: 3, {0, 1}: 3, {1, 1}: 8, {1, 0}: -1}
		length, ok := known[[2]byte(p[:2])]
		if !ok || length > 0 && length != len(p) || length < 0 && (len(p)-10)%6 != 0 {
			t.Fatalf("% x was accepted", p)
		}
		if b.pairs < 1 || b.pairs > 3 {
			t.Fatalf("%d pairs, want 1 to 3", b.pairs)
		}
		if len(b.filter.Unicast) > maxTable+1 || len(b.filter.Multicast) > maxTable {
			t.Fatalf("a filter of %d and %d addresses", len(b.filter.Unicast), len(b.filter.Multicast))
		}
		if b.filter.On && !slices.Contains(b.filter.Unicast, c.mac) {
			t.Fatal("the device's own address is filtered out")
		}
		b.filter.tun() // must not exceed its table
	})
}
