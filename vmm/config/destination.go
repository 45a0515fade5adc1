package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// Destination is an entry of allow and deny: an outside network or address, or a host name. Exactly
// one of Prefix and Host is set.
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

// isHost reports whether s is a valid host name (RFC 1123 §2.1, plus '_'). A name whose last label
// is all digits is a mistyped address, not a name.
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

// MarshalText is String.
func (d Destination) MarshalText() ([]byte, error) { return []byte(d.String()), nil }
