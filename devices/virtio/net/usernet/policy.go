package usernet

import "net/netip"

// The addresses of the guest's network.
var (
	network   = netip.MustParsePrefix("10.0.2.0/24")
	gateway   = netip.MustParseAddr("10.0.2.2")
	guestAddr = netip.MustParseAddr("10.0.2.15")
)

// thisNet is "this host on this network" (RFC 1122): Linux takes 0.0.0.0 for its
// loopback.
var thisNet = netip.MustParsePrefix("0.0.0.0/8")

// reserved is class E with the limited broadcast address (RFC 1112).
var reserved = netip.MustParsePrefix("240.0.0.0/4")

// Public says whether a guest may reach an address of the outside: no loopback,
// link-local, multicast, broadcast or unspecified address, also not one that is
// an IPv4 address in IPv6's clothes.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsLoopback(), a.IsLinkLocalUnicast(), a.IsMulticast():
		return false
	case a.Is4():
		return !thisNet.Contains(a) && !reserved.Contains(a)
	}
	b := a.As16()
	for _, p := range embedding {
		if p.prefix.Contains(a) && !Public(netip.AddrFrom4([4]byte(b[p.off:]))) {
			return false
		}
	}
	return true
}

// embedding are IPv6 networks whose addresses hold an IPv4 address at off.
var embedding = []struct {
	prefix netip.Prefix
	off    int
}{
	{netip.MustParsePrefix("::/96"), 12},        // IPv4-compatible (RFC 4291 §2.5.5.1)
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64 (RFC 6052)
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4 (RFC 3056)
}
