package net

// Filter says which frames a driver wants (virtio 1.2 §5.1.6.5.1). The zero
// Filter wants all: so it is after a reset.
type Filter struct {
	On           bool // only those to the addresses below, and broadcasts
	Unicast      [][6]byte
	Multicast    [][6]byte
	AllMulticast bool
}

// broadcast is the address of all stations.
var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Flags and limits of TUNSETTXFILTER (linux/if_tun.h, drivers/net/tun.c).
const (
	filterAllMulti = 1 // TUN_FLT_ALLMULTI
	filterExact    = 8 // FLT_EXACT_COUNT: addresses that are compared, not hashed
	filterMost     = 64
)

// tunFilter is struct tun_filter: flags, count, addresses.
type tunFilter struct {
	flags, count uint16
	addr         [filterMost][6]byte
}

// tun translates the filter. The kernel compares with the first 8 addresses and
// hashes the rest, which must be multicast ones: with more unicast addresses
// than it compares, everything passes. It hashes what it likes of a broadcast,
// so that is among the first.
func (f Filter) tun() tunFilter {
	var t tunFilter
	if !f.On || 1+len(f.Unicast) > filterExact {
		return t
	}
	add := func(a [6]byte) {
		t.addr[t.count] = a
		t.count++
	}
	add(broadcast)
	for _, a := range f.Unicast {
		add(a)
	}
	switch {
	case f.AllMulticast || int(t.count)+len(f.Multicast) > filterMost:
		t.flags = filterAllMulti
	default:
		for _, a := range f.Multicast {
			add(a)
		}
	}
	return t
}
