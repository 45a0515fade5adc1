package config

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Port forwards a host port to a guest port, or a range of host ports to a range of the same size:
// "[ADDRESS:]PORT[-LAST]:GUESTPORT[-LAST][/tcp|/udp]".
type Port struct {
	UDP   bool
	Host  netip.AddrPort // first host port; address "::" covers IPv4 and IPv6 and is the default
	Guest uint16         // first guest port
	More  uint16         // number of further ports
}

// UnmarshalText reads a port or a range. Ports are 1 to 65535. An IPv6 address must be in brackets.
func (p *Port) UnmarshalText(b []byte) error {
	s := string(b)
	wrong := fmt.Errorf(`%s is not a published port: write "8080:80", "127.0.0.1:2222:22/tcp", "8000-8010:9000-9010" or "[::1]:5353:53/udp"`, quote(s))
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
	to, toMore, ok := portRange(guest)
	if !ok {
		return wrong
	}
	address, port, ok := cutLast(host)
	if !ok {
		address, port = "[::]", host
	}
	from, more, ok := portRange(port)
	if !ok {
		return wrong
	}
	if more != toMore {
		return fmt.Errorf("%s maps %d host ports to %d guest ports", quote(s), int(more)+1, int(toMore)+1)
	}
	a, err := netip.ParseAddrPort(fmt.Sprintf("%s:%d", address, from))
	if err != nil || a.Addr().Zone() != "" || a.Addr().Is4In6() || a.Addr().IsMulticast() {
		return wrong
	}
	*p = Port{UDP: proto == "udp", Host: a, Guest: to, More: more}
	return nil
}

// Each iterates over the single ports of the range.
func (p Port) Each() iter.Seq[Port] {
	return func(yield func(Port) bool) {
		for i := range p.count() {
			if !yield(Port{UDP: p.UDP, Host: netip.AddrPortFrom(p.Host.Addr(), p.Host.Port()+uint16(i)), Guest: p.Guest + uint16(i)}) {
				return
			}
		}
	}
}

func (p Port) count() int { return int(p.More) + 1 }

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

// portRange reads "80" or "80-89".
func portRange(s string) (first, more uint16, ok bool) {
	a, b, ranged := strings.Cut(s, "-")
	first, ok = portNumber(a)
	if !ok || !ranged {
		return first, 0, ok
	}
	last, ok := portNumber(b)
	return first, last - first, ok && last >= first
}

// String returns the form that UnmarshalText reads, with all parts written out.
func (p Port) String() string {
	proto, host, guest := "tcp", p.Host.String(), strconv.Itoa(int(p.Guest))
	if p.UDP {
		proto = "udp"
	}
	if p.More > 0 {
		host = fmt.Sprintf("%s-%d", host, p.Host.Port()+p.More)
		guest = fmt.Sprintf("%s-%d", guest, p.Guest+p.More)
	}
	return fmt.Sprintf("%s:%s/%s", host, guest, proto)
}

// MarshalText returns the same text as String.
func (p Port) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// publishedPorts holds, for each published port, the addresses on which it is published. With each
// address it holds the index of the network device that publishes the port there.
type publishedPorts map[hostPort][]publication

type hostPort struct {
	udp  bool
	port uint16
}

type publication struct {
	addr netip.Addr
	net  int
}

// ports reports ports that are published twice, by the same network device or by two of them. A
// port on all addresses conflicts with the same port on one address.
func (c *checker) ports(seen publishedPorts, ports []Port, i int, p path) {
	total := 0
	for j, port := range ports {
		if total += port.count(); total > maxPorts {
			c.add(c.at(p.index(j)), "%s: %d ports are too many: at most %d", p, total, maxPorts)
			return
		}
		if !port.Host.IsValid() {
			continue
		}
		for one := range port.Each() {
			key, addr := hostPort{one.UDP, one.Host.Port()}, one.Host.Addr()
			clash := slices.IndexFunc(seen[key], func(o publication) bool { return covers(o.addr, addr) || covers(addr, o.addr) })
			if clash >= 0 {
				c.bad(p.index(j), "port %s is already published by net[%d]", one.Host, seen[key][clash].net)
				break
			}
			seen[key] = append(seen[key], publication{addr, i})
		}
	}
}

// covers reports whether a socket that is bound to the first address also receives what is sent to
// the second address. It does if the two are equal, or if the first is the unspecified address of
// the same family. The unspecified IPv6 address "::" covers both families.
func covers(all, one netip.Addr) bool {
	return all == one || all == netip.IPv6Unspecified() || all == netip.IPv4Unspecified() && one.Is4()
}
