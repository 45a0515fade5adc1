package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Port is a port of the host that leads to one of the guest's: "[ADDRESS:]PORT:GUESTPORT[/tcp|/udp]".
type Port struct {
	UDP   bool
	Host  netip.AddrPort // "::" in the zone of both families when no address was given
	Guest uint16
}

// UnmarshalText reads a port; ports are 1 to 65535, and an IPv6 address stands in brackets.
func (p *Port) UnmarshalText(b []byte) error {
	s := string(b)
	wrong := fmt.Errorf(`%s is not a published port: write "8080:80", "127.0.0.1:2222:22/tcp" or "[::1]:5353:53/udp"`, quote(s))
	rest, proto, ok := strings.Cut(s, "/")
	if !ok {
		proto = "tcp"
	}
	if proto != "tcp" && proto != "udp" {
		return wrong
	}
	host, guest, ok := cutLast(rest)
	if !ok {
		return wrong
	}
	to, ok := portNumber(guest)
	if !ok {
		return wrong
	}
	address, port, ok := cutLast(host)
	if !ok {
		address, port = "[::]", host
	}
	from, ok := portNumber(port)
	if !ok {
		return wrong
	}
	a, err := netip.ParseAddrPort(fmt.Sprintf("%s:%d", address, from))
	if err != nil || a.Addr().Zone() != "" || a.Addr().Is4In6() || a.Addr().IsMulticast() {
		return wrong
	}
	*p = Port{UDP: proto == "udp", Host: a, Guest: to}
	return nil
}

// cutLast cuts at the last colon outside brackets.
func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || i < strings.LastIndexByte(s, ']') {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func portNumber(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0 && s[0] != '0'
}

// String is the form that UnmarshalText reads, with everything written out.
func (p Port) String() string {
	proto := "tcp"
	if p.UDP {
		proto = "udp"
	}
	return fmt.Sprintf("%s:%d/%s", p.Host, p.Guest, proto)
}

// MarshalText is String.
func (p Port) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

func (Port) sample() string { return "8080:80" }
