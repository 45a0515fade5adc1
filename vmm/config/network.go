package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// IfName is the name of a host network interface: 1 to 15 bytes (IFNAMSIZ is 16 with the final NUL)
// that pass dev_valid_name of the kernel's net/core/dev.c, without '%', which the kernel would read
// as a template.
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

// CIDR is an interface address with its prefix length: "10.0.2.1/24". The zero value means none.
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
