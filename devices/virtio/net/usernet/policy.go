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

// nobodys are networks without an address that one host can have.
var nobodys = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),   // this host on this network (RFC 1122): Linux takes 0.0.0.0 for its loopback
	netip.MustParsePrefix("224.0.0.0/4"), // multicast
	netip.MustParsePrefix("240.0.0.0/4"), // class E with the limited broadcast address (RFC 1112)
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("ff00::/8"),
}

// closed are networks that only a rule of their own opens: one that lies within.
var closed = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fe80::/10"),
	// Where clouds tell a machine its secrets, other than in 169.254.0.0/16 and fe80::/10.
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

// public says whether a guest may reach an address of the outside without a rule:
// no loopback, link-local, multicast, broadcast or unspecified address and no
// cloud's metadata service, also not one that is an IPv4 address in IPv6's
// clothes.
func public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !reachable(a) || contains(closed, a) {
		return false
	}
	return !slices.ContainsFunc(embedded(a), func(v4 netip.Addr) bool { return !public(v4) })
}

// reachable says whether an address can be one host's at all.
func reachable(a netip.Addr) bool {
	return a.IsValid() && !contains(nobodys, a)
}

func contains(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}

// embedded are the IPv4 addresses in an IPv6 address, which a tunnel or translator would send to.
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

// embedding are IPv6 networks whose addresses hold an IPv4 address at off, with some bits flipped.
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

// Rule is a network, or a host's name in lower case without a dot at its end;
// "*.NAME" is every name below NAME.
type Rule struct {
	Prefix netip.Prefix
	Host   string
}

// Policy says where a guest may go. Deny beats Allow. With an Allow that is not
// empty nothing else is allowed; but what [public] refuses needs a rule that
// names nothing but such addresses: 0.0.0.0/0 does not open the loopback.
//
// A name in Allow opens the addresses that the gateway's resolver has told the
// guest for it, if they are public, for their time to live. Names says which names
// that is asked for; those in Deny it never is.
type Policy struct {
	Allow, Deny []Rule
	Isolated    bool // nothing is allowed, and no name is resolved
	Names       Names
}

// Names says which names the gateway resolves for the guest.
type Names int

const (
	// NamesByPolicy are those in Allow. If there are none, it is every name if the guest may go anywhere.
	NamesByPolicy Names = iota
	AllNames
	NoNames
)

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
	allNames              bool // but for denyNames
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

// anywhere says whether the guest may go to the world as a family of addresses has it: a question
// for a name, which the whole world may answer, is then no way out that it does not have already.
func (p *policy) anywhere(family string) bool {
	all := netip.MustParsePrefix(family)
	never := slices.Concat(p.deny, closed, nobodys)
	return !covered(all, never) && (!p.listed || covered(all, p.allow))
}

// covered says whether the networks in by hold all of p.
func covered(p netip.Prefix, by []netip.Prefix) bool {
	if within(p, by) || !slices.ContainsFunc(by, p.Overlaps) {
		return within(p, by)
	}
	last := p.Addr().AsSlice() // of the upper half: the first address with one more bit
	last[p.Bits()/8] |= 0x80 >> (p.Bits() % 8)
	upper, _ := netip.AddrFromSlice(last)
	return covered(netip.PrefixFrom(p.Addr(), p.Bits()+1), by) && covered(netip.PrefixFrom(upper, p.Bits()+1), by)
}

// allowed says whether the guest may reach an address now.
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
func (p *policy) reads() bool { return !p.allNames || len(p.denyNames) > 0 }

// resolves says whether the guest may have a name resolved.
func (p *policy) resolves(name string) bool {
	return !matches(p.denyNames, name) && (p.allNames || matches(p.allowNames, name))
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
