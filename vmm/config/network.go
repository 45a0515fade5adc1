package config

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// IfName is the name of a host network interface. It has 1 to 15 bytes (IFNAMSIZ is 16 with the
// final NUL), passes the kernel's dev_valid_name (net/core/dev.c), and contains no '%', because the
// kernel would interpret such a name as a template.
type IfName string

// UnmarshalText checks the name.
func (n *IfName) UnmarshalText(b []byte) error {
	s := string(b)
	switch {
	case s == "":
		return fmt.Errorf("interface name is empty")
	case len(s) > 15:
		return fmt.Errorf("interface name %s is longer than 15 bytes", quote(s))
	case s == "." || s == "..":
		return fmt.Errorf("interface name %s is reserved", quote(s))
	}
	for _, r := range s {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune("/:%", r) {
			return fmt.Errorf("interface name %s contains a character that is not allowed", quote(s))
		}
	}
	*n = IfName(s)
	return nil
}

// CIDR is an interface address with its prefix length: "10.0.2.1/24". The zero value means no
// address.
type CIDR struct{ netip.Prefix }

// UnmarshalText reads an address that can be assigned to a host.
func (c *CIDR) UnmarshalText(b []byte) error {
	s := string(b)
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil {
			return fmt.Errorf("address %s has no network length: write %q", quote(s), a.String()+"/24")
		}
		return fmt.Errorf(`%s is not an address with a network length, like "10.0.2.1/24"`, quote(s))
	}
	a := p.Addr()
	switch {
	case a.Is4In6() || a.IsMulticast() || a.IsLoopback() || a.IsUnspecified():
		return fmt.Errorf("address %s cannot be assigned to an interface", quote(s))
	case p.Bits() == 0:
		return fmt.Errorf("address %s has network length 0", quote(s))
	case a.Is4() && p.Bits() < 31 && p.Masked().Addr() == a:
		return fmt.Errorf("address %s is the network itself: write the host's own address, like %q", quote(s), fmt.Sprintf("%s/%d", a.Next(), p.Bits()))
	case a.Is4() && p.Bits() < 31 && !p.Contains(a.Next()):
		return fmt.Errorf("address %s is its network's broadcast address", quote(s))
	}
	c.Prefix = p
	return nil
}

// MAC is a unicast Ethernet address, written "52:54:00:12:34:56".
type MAC [6]byte

// UnmarshalText reads an address; multicast addresses and the zero address are rejected.
func (m *MAC) UnmarshalText(b []byte) error {
	hw, err := net.ParseMAC(string(b))
	if err != nil || len(hw) != len(m) || b[2] != ':' { // ParseMAC also accepts longer addresses, and the separators - and .
		return fmt.Errorf(`%s is not a MAC address: write six pairs of hex digits, like "52:54:00:12:34:56"`, quote(string(b)))
	}
	v := MAC(hw)
	if v[0]&1 != 0 {
		return fmt.Errorf("MAC address %s is a multicast address: the lowest bit of the first byte must be 0", quote(string(b)))
	}
	if v == (MAC{}) {
		return fmt.Errorf("MAC address %s is all zeros", quote(string(b)))
	}
	*m = v
	return nil
}

// String returns the address with lower case digits and colons.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText returns the form that UnmarshalText reads.
func (m MAC) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// Destination is an entry of the keys allow and deny: an outside network, an outside address, or a
// host name. Exactly one of Prefix and Host is set.
type Destination struct {
	Prefix netip.Prefix // masked; never an IPv4-mapped IPv6 address
	Host   string       // lower case, without a trailing dot; "*.NAME" is every name below NAME
}

// UnmarshalText reads "10.0.0.0/8", "2001:db8::1", "example.com" or "*.example.com".
func (d *Destination) UnmarshalText(b []byte) error {
	s := string(b)
	if p, err := netip.ParsePrefix(s); err == nil {
		switch {
		case p.Addr().Is4In6():
			return fmt.Errorf("%s is an IPv4 network written as IPv6: write it as IPv4", quote(s))
		case p != p.Masked():
			return fmt.Errorf("%s has host bits set: write %q for the network, or %q for the address alone", quote(s), p.Masked(), p.Addr())
		}
		*d = Destination{Prefix: p}
		return nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return fmt.Errorf("%s has a zone, which is meaningless in the guest: remove the zone", quote(s))
		}
		a = a.Unmap()
		*d = Destination{Prefix: netip.PrefixFrom(a, a.BitLen())}
		return nil
	}
	host := strings.TrimSuffix(strings.ToLower(s), ".")
	if !isHost(strings.TrimPrefix(host, "*.")) {
		return fmt.Errorf(`%s is not a network, an address or a host name: write "10.0.0.0/8", "2001:db8::1", "example.com" or "*.example.com"`, quote(s))
	}
	*d = Destination{Host: host}
	return nil
}

// isHost reports whether s is a valid host name (RFC 1123 §2.1, plus '_'). It rejects a name whose
// last label is all digits, because that is a mistyped address.
func isHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' {
			return false
		}
		for _, r := range label {
			if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return false
			}
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != ""
}

// String returns the form that UnmarshalText reads.
func (d Destination) String() string {
	if d.Host != "" {
		return d.Host
	}
	if d.Prefix.IsSingleIP() {
		return d.Prefix.Addr().String()
	}
	return d.Prefix.String()
}

// MarshalText returns the same text as String.
func (d Destination) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
