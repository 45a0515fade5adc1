package usernet

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

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

// closed are networks that only a rule of their own opens: one that lies within.
var closed = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fe80::/10"),
	// Where clouds tell a machine its secrets, other than 169.254.169.254.
	netip.MustParsePrefix("fd00:ec2::254/128"),
	netip.MustParsePrefix("fd20:ce::254/128"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("168.63.129.16/32"),
}

// Public says whether a guest may reach an address of the outside without a rule:
// no loopback, link-local, multicast, broadcast or unspecified address and no
// cloud's metadata service, also not one that is an IPv4 address in IPv6's
// clothes.
func Public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !reachable(a) || contains(closed, a) {
		return false
	}
	v4, ok := embedded(a)
	return !ok || Public(v4)
}

// reachable says whether an address can be one host's at all.
func reachable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !thisNet.Contains(a) && !reserved.Contains(a)
}

func contains(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// embedded is the IPv4 address in an IPv6 address.
func embedded(a netip.Addr) (v4 netip.Addr, ok bool) {
	if a.Is4() {
		return v4, false
	}
	b := a.As16()
	for _, p := range embedding {
		if p.prefix.Contains(a) {
			return netip.AddrFrom4([4]byte(b[p.off:])), true
		}
	}
	return v4, false
}

// embedding are IPv6 networks whose addresses hold an IPv4 address at off.
var embedding = []struct {
	prefix netip.Prefix
	off    int
}{
	{netip.MustParsePrefix("::/96"), 12},           // IPv4-compatible (RFC 4291 §2.5.5.1)
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // IPv4-translated (RFC 2765 §2.1)
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12},  // NAT64 of a site (RFC 8215), with prefixes of 96 bits
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4 (RFC 3056)
}

// Rule is a network, or a host's name in lower case without a dot at its end;
// "*.NAME" is every name below NAME.
type Rule struct {
	Prefix netip.Prefix
	Host   string
}

// Policy says where a guest may go. Deny beats Allow. With an Allow that is not
// empty nothing else is allowed; but what [Public] refuses needs a rule that
// names nothing but such addresses: 0.0.0.0/0 does not open the loopback.
//
// A name in Allow opens the addresses that the gateway's resolver has told the
// guest for it, if they are public, for their time to live. With names in Allow,
// other names are not resolved; those in Deny never are.
type Policy struct {
	Allow, Deny []Rule
	Isolated    bool // nothing is allowed, and no name is resolved
}

// A name's addresses are open for a minute at least, since a guest connects some
// time after it asked.
const (
	minLearned = time.Minute
	maxLearned = 24 * time.Hour
	maxKnown   = 4096 // addresses at a time
)

// policy is a Policy with what was learned.
type policy struct {
	isolated, listed      bool
	allow, deny           []netip.Prefix
	allowNames, denyNames []string

	mu    sync.Mutex
	known map[netip.Addr]time.Time // until when
}

func newPolicy(p Policy) *policy {
	q := &policy{isolated: p.Isolated, listed: len(p.Allow) > 0, known: map[netip.Addr]time.Time{}}
	sort := func(rules []Rule, prefixes *[]netip.Prefix, names *[]string) {
		for _, r := range rules {
			if r.Host != "" {
				*names = append(*names, r.Host)
			} else {
				*prefixes = append(*prefixes, r.Prefix)
			}
		}
	}
	sort(p.Allow, &q.allow, &q.allowNames)
	sort(p.Deny, &q.deny, &q.denyNames)
	return q
}

// allowed says whether the guest may reach an address now.
func (p *policy) allowed(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	v4, ok := embedded(a)
	switch {
	case p.isolated, contains(p.deny, a), ok && contains(p.deny, v4):
		return false
	case contains(closed, a):
		return slices.ContainsFunc(p.allow, func(r netip.Prefix) bool { return r.Contains(a) && within(r, closed) })
	case !Public(a):
		return false
	}
	return !p.listed || contains(p.allow, a) || p.knows(a, time.Now())
}

// within says whether r is part of one of all.
func within(r netip.Prefix, all []netip.Prefix) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Bits() <= r.Bits() && p.Contains(r.Addr()) })
}

func (p *policy) knows(a netip.Addr, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.known[a])
}

// learn opens an address of an allowed name.
func (p *policy) learn(a netip.Addr, ttl time.Duration, now time.Time) {
	until := now.Add(min(max(ttl, minLearned), maxLearned))
	a = a.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown && p.known[a].IsZero() {
		p.forget(now)
	}
	if until.After(p.known[a]) {
		p.known[a] = until
	}
}

// forget makes room: what has expired goes, or what would go next. p.mu is held.
func (p *policy) forget(now time.Time) {
	var next netip.Addr
	for a, until := range p.known {
		switch {
		case !now.Before(until):
			delete(p.known, a)
		case !next.IsValid() || until.Before(p.known[next]):
			next = a
		}
	}
	if len(p.known) >= maxKnown {
		delete(p.known, next)
	}
}

// reads says whether the policy has a say in what names are resolved.
func (p *policy) reads() bool { return p.isolated || len(p.allowNames)+len(p.denyNames) > 0 }

// resolves says whether the guest may have a name resolved.
func (p *policy) resolves(name string) bool {
	return !p.isolated && !matches(p.denyNames, name) && (len(p.allowNames) == 0 || matches(p.allowNames, name))
}

func matches(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		below, ok := strings.CutPrefix(n, "*.")
		return ok && strings.HasSuffix(name, "."+below) || n == name
	})
}

// permission is what the policy says to a destination.
type permission int

const (
	open    permission = iota
	refused            // by the policy
	nobody             // an address of the guest's own network that nobody answers for
)

// destination is where on the host a connection or a flow to dst goes. The gateway's
// own address is the host's loopback, if that was opened: the guest has no other
// name for it.
func (s *session) destination(dst netip.AddrPort) (netip.AddrPort, permission) {
	if isGateway(dst.Addr()) {
		loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
		if dst.Addr().Is6() {
			loopback = netip.IPv6Loopback()
		}
		if s.policy.allowed(loopback) {
			return netip.AddrPortFrom(loopback, dst.Port()), open
		}
		return dst, nobody
	}
	if isLocal(dst.Addr()) {
		return dst, nobody
	}
	if !s.cfg.Allowed(dst.Addr()) {
		s.refusals.note(dst.Addr())
		return dst, refused
	}
	return s.cfg.outside(dst), open
}

// prohibit answers a packet that the policy refused: "communication
// administratively prohibited" (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
func (s *session) prohibit(pkt *stack.PacketBuffer) {
	e := icmpError{typ: uint8(header.ICMPv4DstUnreachable), code: prohibited4}
	if pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber {
		e = icmpError{typ: uint8(header.ICMPv6DstUnreachable), code: prohibited6}
	}
	s.tell(e, quote(pkt))
}

// maxRefusals bounds what is logged of refusals.
const maxRefusals = 64

// refusals logs each destination that the guest was refused once.
type refusals struct {
	logf func(format string, args ...any)

	mu   sync.Mutex
	seen map[netip.Addr]struct{}
}

func (r *refusals) note(a netip.Addr) {
	r.mu.Lock()
	_, again := r.seen[a]
	n := len(r.seen)
	if !again && n < maxRefusals {
		r.seen[a] = struct{}{}
	}
	r.mu.Unlock()
	switch {
	case again, n >= maxRefusals:
	case n == maxRefusals-1:
		r.logf("the guest may not reach %s; no more of these will be told", a)
	default:
		r.logf("the guest may not reach %s", a)
	}
}
