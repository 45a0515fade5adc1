package net

import (
	"testing"
	"time"

	"minivmm/devices/virtio/queue"
)

func TestFiltersFitTheKernel(t *testing.T) {
	for _, tc := range []struct {
		name         string
		f            Filter
		flags, count uint16
	}{
		{"all", Filter{}, 0, 0},
		{"only broadcast", Filter{On: true}, 0, 1},
		{"one", Filter{On: true, Unicast: addresses(2, 1)}, 0, 2},
		{"the maximum of exact addresses", Filter{On: true, Unicast: addresses(2, 7)}, 0, 8},
		{"one more", Filter{On: true, Unicast: addresses(2, 8), Multicast: addresses(1, 1)}, 0, 0},
		{"multicast", Filter{On: true, Unicast: addresses(2, 1), Multicast: addresses(1, 62)}, 0, 64},
		{"too much multicast", Filter{On: true, Unicast: addresses(2, 1), Multicast: addresses(1, 63)}, filterAllMulti, 2},
		{"all multicast", Filter{On: true, Unicast: addresses(2, 1), Multicast: addresses(1, 2), AllMulticast: true}, filterAllMulti, 2},
	} {
		got := tc.f.tun()
		if got.flags != tc.flags || got.count != tc.count || got.count > 0 && got.addr[0] != broadcast {
			t.Errorf("%s: flags %d, %d addresses; want %d, %d", tc.name, got.flags, got.count, tc.flags, tc.count)
		}
	}
}

func TestChangesArePaced(t *testing.T) {
	var p pace
	now := time.Unix(1000, 0)
	for i := range paceBurst {
		if !p.take(now) {
			t.Fatalf("change %d was rejected", i)
		}
	}
	if p.take(now) {
		t.Error("a change above the burst limit was allowed")
	}
	for range 3 {
		now = now.Add(time.Second)
		for i := range paceRate + 1 {
			if got := p.take(now); got != (i < paceRate) {
				t.Errorf("change %d of a second later: %v", i, got)
			}
		}
	}
}

// TestAFloodOfFiltersIsPaced counts the operations that take the lock of all network interfaces of
// the host. Every command succeeds: the guest always gets at least the frames that it wants, and
// gets others only while it floods.
func TestAFloodOfFiltersIsPaced(t *testing.T) {
	d, b := openPairs(t, 2)
	var c *controller
	do := func(p ...byte) {
		t.Helper()
		if !c.do(&queue.Buffers{p}) {
			t.Fatalf("% x was rejected", p)
		}
	}
	start := time.Now()
	for i := range 5000 {
		if i%1000 == 0 { // a reset does not raise the limit
			c = newController(d, b, 2, controlFeatures)
			b.filter = Filter{}
		}
		mac := [6]byte{2, 0, 0, 0, byte(i >> 8), byte(i)}
		do(append([]byte{1, 1}, mac[:]...)...)
		do(append([]byte{1, 0}, macTable(nil, [][6]byte{{1, 0, 0, 0, byte(i >> 8), byte(i)}})...)...)
		do(0, 0, byte(i%2))
		if f := b.filter; f.On && (i%2 == 1 || f.Unicast[0] != mac || f.Multicast[0][5] != byte(i)) {
			t.Fatalf("round %d: filter %+v keeps frames from the guest", i, f)
		}
	}
	if most := 2 * (paceBurst + int(paceRate*(1+time.Since(start).Seconds()))); b.filters > most {
		t.Errorf("%d changes of the filter in %v, want at most %d", b.filters, time.Since(start), most)
	}
	// The latest state applies once a change is allowed again, and a command without a change is
	// free.
	d.filters = pace{}
	for range 1000 {
		do(0, 0, 0)
	}
	if before := b.filters; !b.filter.On || b.filter.Multicast[0][5] != 4999&0xff {
		t.Errorf("after the flood: filter %+v", b.filter)
	} else if do(0, 0, 0); b.filters != before {
		t.Error("a command without a change reached the backend")
	}
}
