package net

// Filter describes which frames a driver wants (virtio 1.2 §5.1.6.5.1). The zero Filter accepts all
// frames, which is the state after a reset.
type Filter struct {
	On           bool // accept only broadcasts and frames to the addresses below
	Unicast      [][6]byte
	Multicast    [][6]byte
	AllMulticast bool
}

// broadcast is the Ethernet broadcast address.
var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Flags and limits of TUNSETTXFILTER (linux/if_tun.h, drivers/net/tun.c).
const (
	filterAllMulti = 1 // TUN_FLT_ALLMULTI
	filterExact    = 8 // FLT_EXACT_COUNT: the number of addresses that the kernel compares exactly
	filterMost     = 64
)

// tunFilter is struct tun_filter: flags, count, addresses.
type tunFilter struct {
	flags, count uint16
	addr         [filterMost][6]byte
}

// tun converts the filter for the kernel. The kernel compares the first 8 addresses exactly and
// hashes the rest, which must be multicast addresses. If there are more unicast addresses than it
// compares exactly, the filter accepts all frames. The broadcast address is among the first:
// otherwise broadcasts would pass only if their hash happened to match that of a multicast address.
func (f Filter) tun() tunFilter {
	var t tunFilter
	if !f.On || 1+len(f.Unicast) > filterExact {
		return t
	}
	all := append([][6]byte{broadcast}, f.Unicast...)
	if f.AllMulticast || len(all)+len(f.Multicast) > filterMost {
		t.flags = filterAllMulti
	} else {
		all = append(all, f.Multicast...)
	}
	t.count = uint16(copy(t.addr[:], all))
	return t
}
