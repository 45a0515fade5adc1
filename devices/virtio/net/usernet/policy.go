package usernet

import (
	"encoding/binary"
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

// nonHosts are networks whose addresses cannot belong to a single host.
var nonHosts = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),   // this host on this network (RFC 1122): Linux treats 0.0.0.0 as its loopback
	netip.MustParsePrefix("224.0.0.0/4"), // multicast
	netip.MustParsePrefix("240.0.0.0/4"), // class E with the limited broadcast address (RFC 1112)
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("ff00::/8"),
}

// closed are networks that a rule opens only if the rule's own network lies within one of them.
var closed = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fe80::/10"),
	// Other metadata services of clouds, which hand out a machine's secrets.
	netip.MustParsePrefix("100.96.0.96/32"),         // Volcano Engine
	netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure
	netip.MustParsePrefix("192.0.0.192/32"),         // Oracle, in the past
	netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
	netip.MustParsePrefix("fd00:a9fe:a9fe::/48"),    // Akamai
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle
	netip.MustParsePrefix("fd00:ec2::/32"),          // Amazon
	netip.MustParsePrefix("fd20:ce::254/128"),       // Google
}

// public reports whether a guest may reach an address without a rule. It may not reach loopback,
// link-local, multicast, broadcast or unspecified addresses or the metadata service of a cloud, nor
// IPv6 addresses that embed such an IPv4 address.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !reachable(a) || contains(closed, a) {
		return false
	}
	return !slices.ContainsFunc(embedded(a), func(v4 netip.Addr) bool { return !public(v4) })
}

// reachable reports whether an address can belong to a single host.
func reachable(a netip.Addr) bool {
	return a.IsValid() && !contains(nonHosts, a)
}

func contains(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// embedded returns the IPv4 addresses to which a tunnel or translator would send a packet for a.
func embedded(a netip.Addr) (all []netip.Addr) {
	if a.Is4() {
		return nil
	}
	b := a.As16()
	for _, p := range embedding {
		if p.prefix.Contains(a) {
			v4 := binary.BigEndian.Uint32(b[p.off:]) ^ p.flip
			all = append(all, netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v4))))
		}
	}
	if binary.BigEndian.Uint32(b[8:])&^(2<<24) == 0x5efe { // ISATAP (RFC 5214 §6.1)
		all = append(all, netip.AddrFrom4([4]byte(b[12:])))
	}
	return all
}

// embedding lists IPv6 networks whose addresses embed an IPv4 address at byte off, XORed with flip.
var embedding = []struct {
	prefix netip.Prefix
	off    int
	flip   uint32
}{
	{netip.MustParsePrefix("::/96"), 12, 0},              // IPv4-compatible (RFC 4291 §2.5.5.1)
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, 0},    // IPv4-translated (RFC 2765 §2.1)
	{netip.MustParsePrefix("64:ff9b::/96"), 12, 0},       // NAT64 (RFC 6052)
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, 0},     // NAT64 of a site (RFC 8215), with prefixes of 96 bits
	{netip.MustParsePrefix("2002::/16"), 2, 0},           // 6to4 (RFC 3056)
	{netip.MustParsePrefix("2001::/32"), 12, ^uint32(0)}, // Teredo (RFC 4380 §4)
}

// Rule is a network, or a lower-case name without a trailing dot; "*.NAME" is any name below NAME.
type Rule struct {
	Prefix netip.Prefix
	Host   string
}

// Policy defines where a guest may go. Deny takes precedence over Allow. If Allow is not empty,
// only what it lists is allowed. An address in one of the closed networks, such as the loopback,
// needs a rule for a network within them: 0.0.0.0/0 does not open it. No rule opens any other
// address that [public] rejects.
//
// A name in Allow opens the public addresses that the gateway has resolved it to for the guest, for
// their time to live. Names defines which names are resolved; a name in Deny never is.
type Policy struct {
	Allow, Deny []Rule
	Isolated    bool // nothing is allowed, and no name is resolved
	Names       Names
}

// Names defines which names the gateway resolves for the guest.
type Names int

const (
	// NamesByPolicy resolves the names in Allow. If there are none, it resolves every name if the
	// guest may go anywhere on the internet (policy.anywhere).
	NamesByPolicy Names = iota
	AllNames
	NoNames
)

// A name's addresses stay open for at least a minute, because a guest connects some time after the
// query.
const (
	minLearned = time.Minute
	maxLearned = 24 * time.Hour
	maxKnown   = 4096 // maximum number of learned addresses
)

// policy is a Policy with the addresses learned from DNS.
type policy struct {
	isolated, listed      bool
	allNames              bool // except denyNames
	allow, deny           []netip.Prefix
	allowNames, denyNames []string

	mu    sync.Mutex
	known map[netip.Addr]time.Time // expiry times
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
	switch {
	case p.Isolated || p.Names == NoNames:
		q.allowNames = nil
	case p.Names == AllNames:
		q.allNames = true
	default:
		q.allNames = len(q.allowNames) == 0 && (q.anywhere("0.0.0.0/0") || q.anywhere("::/0"))
	}
	return q
}

// anywhere reports whether the guest may go anywhere on the internet in the address family of the
// given prefix, apart from denied networks. If so, resolving any name gives the guest no additional
// way out, although a DNS query can carry data to any server.
func (p *policy) anywhere(family string) bool {
	all := netip.MustParsePrefix(family)
	never := slices.Concat(p.deny, closed, nonHosts)
	return !covered(all, never) && (!p.listed || covered(all, p.allow))
}

// covered reports whether the networks in by cover all of p.
func covered(p netip.Prefix, by []netip.Prefix) bool {
	if within(p, by) || !slices.ContainsFunc(by, p.Overlaps) {
		return within(p, by)
	}
	last := p.Addr().AsSlice() // becomes the first address of the upper half
	last[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(last)
	return covered(netip.PrefixFrom(p.Addr(), p.Bits()+1), by) && covered(netip.PrefixFrom(upper, p.Bits()+1), by)
}

// allowed reports whether the guest may reach an address now.
func (p *policy) allowed(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	denied := func(a netip.Addr) bool { return contains(p.deny, a) }
	switch {
	case p.isolated, denied(a), slices.ContainsFunc(embedded(a), denied):
		return false
	case contains(closed, a):
		return slices.ContainsFunc(p.allow, func(r netip.Prefix) bool { return r.Contains(a) && within(r, closed) })
	case !public(a):
		return false
	}
	return !p.listed || contains(p.allow, a) || p.knows(a, time.Now())
}

// within reports whether r lies within one of all.
func within(r netip.Prefix, all []netip.Prefix) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Bits() <= r.Bits() && p.Contains(r.Addr()) })
}

func (p *policy) knows(a netip.Addr, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.known[a])
}

// learn opens an address of an allowed name for its time to live.
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

// forget removes all expired addresses, or else the one that expires next. p.mu must be held.
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

// reads reports whether the policy restricts which names are resolved.
func (p *policy) reads() bool { return !p.allNames || len(p.denyNames) > 0 }

// resolves reports whether the guest may resolve a name.
func (p *policy) resolves(name string) bool {
	return !matches(p.denyNames, name) && (p.allNames || matches(p.allowNames, name))
}

func matches(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		below, ok := strings.CutPrefix(n, "*.")
		return ok && strings.HasSuffix(name, "."+below) || n == name
	})
}

// permission is the policy's decision about a destination.
type permission int

const (
	open    permission = iota
	refused            // by the policy
	nobody             // an unused address on the guest's own network
)

// destination returns the host's address for dst. If the policy allows the host's loopback, the
// gateway's address maps to it: the guest has no other address for the host's loopback.
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
	if !s.policy.allowed(dst.Addr()) {
		s.refusals.note(dst.Addr())
		return dst, refused
	}
	return s.cfg.outside(dst), open
}

// prohibit answers a packet that the policy rejected with "communication administratively
// prohibited" (RFC 1812 §5.2.7.1, RFC 4443 §3.1).
func (s *session) prohibit(pkt *stack.PacketBuffer) {
	v4 := pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber
	s.sendError(destinationUnreachable(v4, prohibited4, prohibited6), quote(pkt))
}

// maxRefusals limits how many refused destinations are logged.
const maxRefusals = 64

// refusals logs each refused destination once.
type refusals struct {
	logf func(format string, args ...any)

	mu   sync.Mutex
	seen map[netip.Addr]struct{}
}

func (r *refusals) note(a netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.seen[a]; again || len(r.seen) == maxRefusals {
		return
	}
	r.seen[a] = struct{}{}
	more := ""
	if len(r.seen) == maxRefusals {
		more = "; further refusals are not logged"
	}
	r.logf("the guest may not reach %s%s", a, more)
}
