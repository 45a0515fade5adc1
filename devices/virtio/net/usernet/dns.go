package usernet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// stationTTL is how long a guest may cache the address of another VM. VMs come and go.
const stationTTL = 5 // seconds

// hostNames returns the host's resolver configuration, with the named network's domain first in the
// search list.
func (s *session) hostNames() resolvConf {
	c := readResolvConf(s.cfg.resolvConf)
	if s.lan != nil {
		c.search = append([]string{s.domain()[1:]}, c.search...)
	}
	return c
}

// readsNames reports whether the gateway must parse DNS queries. If not, the gateway forwards the
// queries unread.
func (s *session) readsNames() bool { return s.policy.reads() || s.lan != nil }

// ownAnswer answers a query (RFC 1035 §4.1), or returns nil if the host's resolvers must answer.
func (s *session) ownAnswer(query []byte) []byte {
	if !s.readsNames() {
		return nil
	}
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return noAnswer
	}
	reply := dnsmessage.Message{Header: dnsmessage.Header{
		ID: h.ID, Response: true, OpCode: h.OpCode, RecursionDesired: h.RecursionDesired, RecursionAvailable: true,
	}}
	reply.Questions, err = p.AllQuestions()
	switch {
	case err != nil || len(reply.Questions) != 1 || h.OpCode != 0:
		reply.Questions = nil
		reply.RCode = dnsmessage.RCodeFormatError
	default:
		q := reply.Questions[0]
		name := canonical(q.Name)
		a, known := s.station(name)
		switch {
		case known:
			if q.Type == dnsmessage.TypeA && q.Class == dnsmessage.ClassINET {
				reply.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: stationTTL},
					Body:   &dnsmessage.AResource{A: a.As4()},
				}}
			}
		case s.lan != nil && strings.HasSuffix(name, s.domain()), !s.policy.resolves(name):
			reply.RCode = dnsmessage.RCodeNameError
		default:
			return nil
		}
	}
	out, err := reply.Pack()
	if err != nil {
		return noAnswer
	}
	return out
}

// noAnswer means that a malformed query gets no answer.
var noAnswer = []byte{}

// station returns the address of a VM on the guest's named network. The argument is the VM's name,
// with or without the network's domain.
func (s *session) station(name string) (a netip.Addr, ok bool) {
	if s.lan == nil {
		return a, false
	}
	return s.lan.Lookup(strings.TrimSuffix(name, s.domain()))
}

// canonical converts a name to the form that the policy uses.
func canonical(n dnsmessage.Name) string {
	return strings.ToLower(strings.TrimSuffix(n.String(), "."))
}

// learnFrom passes addresses from an answer of the host's resolvers to the policy: the addresses of
// an allowed name, and the addresses of the names for which the allowed name is an alias.
func (s *session) learnFrom(answer []byte) {
	if len(s.policy.allowNames) == 0 {
		return
	}
	var p dnsmessage.Parser
	if h, err := p.Start(answer); err != nil || !h.Response {
		return
	}
	questions, err := p.AllQuestions()
	if err != nil || len(questions) != 1 {
		return
	}
	name := canonical(questions[0].Name)
	if !matches(s.policy.allowNames, name) || !s.policy.resolves(name) {
		return
	}
	records, err := p.AllAnswers()
	if err != nil {
		return
	}
	alias := map[string]string{}
	for _, r := range records {
		if c, ok := r.Body.(*dnsmessage.CNAMEResource); ok {
			alias[canonical(r.Header.Name)] = canonical(c.CNAME)
		}
	}
	names := map[string]bool{}
	for !names[name] {
		names[name] = true
		if next, ok := alias[name]; ok && !matches(s.policy.denyNames, next) {
			name = next
		}
	}
	now := time.Now()
	for _, r := range records {
		if !names[canonical(r.Header.Name)] {
			continue
		}
		ttl := time.Duration(r.Header.TTL) * time.Second
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			s.policy.learn(netip.AddrFrom4(b.A), ttl, now)
		case *dnsmessage.AAAAResource:
			s.policy.learn(netip.AddrFrom16(b.AAAA), ttl, now)
		}
	}
}

// acceptNames accepts a TCP connection to the name server.
func (s *session) acceptNames(r *tcp.ForwarderRequest) {
	ctx, end := s.pending.begin(s.ctx, netip.AddrPortFrom(addr(r.ID().LocalAddress), dnsPort))
	defer end()
	guest := s.handshake(ctx, r)
	end()
	if guest != nil {
		s.carry(&s.out, guest, func() { s.serveNames(gonet.NewTCPConn(guest.wq, guest.ep)) })
	}
}

// namesTimeout is the time limit for the guest's next query and for each answer.
const namesTimeout = 10 * time.Second

// serveNames answers queries over TCP (RFC 1035 §4.2.2), one after the other.
func (s *session) serveNames(guest *gonet.TCPConn) {
	defer guest.Close()
	defer s.afterFunc(s.ctx, func() { guest.SetDeadline(time.Unix(1, 0)) })()
	for s.ctx.Err() == nil {
		guest.SetDeadline(time.Now().Add(namesTimeout))
		query, err := readMessage(guest)
		if err != nil {
			return
		}
		answer := s.ownAnswer(query)
		if answer == nil {
			if answer, err = s.askOverTCP(query); err != nil {
				return
			}
			s.learnFrom(answer)
		}
		guest.SetDeadline(time.Now().Add(namesTimeout))
		if len(answer) == 0 || writeMessage(guest, answer) != nil {
			return
		}
	}
}

// askOverTCP returns the answer of one of the host's resolvers.
func (s *session) askOverTCP(query []byte) ([]byte, error) {
	host, err := s.dialTCP(s.ctx, netip.AddrPortFrom(gateway, dnsPort))
	if err != nil {
		return nil, err
	}
	defer host.Close()
	host.SetDeadline(time.Now().Add(namesTimeout))
	defer context.AfterFunc(s.ctx, func() { host.SetDeadline(time.Unix(1, 0)) })()
	if err := writeMessage(host, query); err != nil {
		return nil, err
	}
	return readMessage(host)
}

func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, m)
	return m, err
}

func writeMessage(w io.Writer, m []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return err
}

const dnsPort = 53

// fallbackResolver is the server that resolv.conf(5) prescribes for a file without name servers.
var fallbackResolver = netip.MustParseAddr("127.0.0.1")

// resolvConf is the part of a resolv.conf(5) file that a guest needs.
type resolvConf struct {
	servers []netip.Addr // at least one
	search  []string
}

// maxSearch limits the total length of a search list, which must fit into one packet.
const maxSearch = 1000

// maxResolvConf limits how many bytes of a resolv.conf(5) file are read.
const maxResolvConf = 64 << 10

// readResolvConf reads a resolv.conf(5). It ignores lines that it does not understand.
func readResolvConf(name string) resolvConf {
	text, _ := os.ReadFile(name)
	return parseResolvConf(string(text[:min(len(text), maxResolvConf)]))
}

func parseResolvConf(text string) (c resolvConf) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil && len(c.servers) < 3 { // MAXNS of resolv.h
				c.servers = append(c.servers, a)
			}
		case "domain", "search": // the last line wins
			c.search = nil
			size := 0
			for _, d := range fields[1:] {
				d = strings.TrimSuffix(d, ".")
				if len(d) <= 253 && isDomain(d) && len(c.search) < 6 && size+len(d) <= maxSearch {
					c.search = append(c.search, d)
					size += len(d)
				}
			}
		}
	}
	if len(c.servers) == 0 {
		c.servers = []netip.Addr{fallbackResolver}
	}
	return c
}

// isDomain reports whether a name of at most 253 bytes fits into a DHCP option.
var isDomain = regexp.MustCompile(`^[-_0-9A-Za-z]{1,63}(\.[-_0-9A-Za-z]{1,63})*$`).MatchString

const (
	// resolverTimeout is the time limit for one resolver before the next is asked.
	resolverTimeout = 3 * time.Second

	dnsHeader   = 12 // RFC 1035 §4.1.1
	dnsServFail = 2
)

// resolve answers a DNS query over UDP with a resolver's answer of any size, or with SERVFAIL if
// all resolvers are unreachable. If no resolver answers but one may be reachable, the guest gets no
// answer.
func (s *session) resolve(guest, server netip.AddrPort, query []byte) {
	if len(query) < dnsHeader {
		return
	}
	reply := func(answer []byte) {
		if len(answer) > 0 {
			s.sendIP(header.UDPProtocolNumber, server.Addr(), guest.Addr(), udpDatagram(server, guest, answer))
		}
	}
	if answer := s.ownAnswer(query); answer != nil {
		reply(answer)
		return
	}
	ctx, end := s.queries.begin(s.ctx, guest.Port())
	if !s.start(func() {
		defer end()
		answer := s.askResolvers(ctx, query)
		s.learnFrom(answer)
		reply(answer)
	}) {
		end()
	}
}

func (s *session) askResolvers(ctx context.Context, query []byte) []byte {
	silent := false
	first := s.resolver.Load()
	for i, r := range s.resolvers() {
		answer, err := s.askResolver(ctx, r, query)
		if err == nil {
			s.resolver.CompareAndSwap(first, first+uint32(i)) // ask this resolver first next time
			return answer
		}
		if ctx.Err() != nil {
			return nil
		}
		silent = silent || !isErrno(err, unix.ECONNREFUSED, unix.ENETUNREACH, unix.EHOSTUNREACH)
	}
	if silent {
		return nil
	}
	return servFail(query)
}

// askResolver sends a query to one resolver and returns the answer. It replaces the guest's query
// ID with a random one: a guest that knew the ID could have an outside accomplice forge the answer.
func (s *session) askResolver(ctx context.Context, to netip.AddrPort, query []byte) ([]byte, error) {
	c, err := dialUDP(to)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(resolverTimeout)); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	asked := bytes.Clone(query)
	rand.Read(asked[:2])
	if _, err := c.Write(asked); err != nil {
		return nil, err
	}
	for {
		var answer []byte
		if err := s.pieces.read(c, func(datagram []byte) { answer = bytes.Clone(datagram) }); err != nil {
			return nil, err
		}
		if len(answer) >= dnsHeader && bytes.Equal(answer[:2], asked[:2]) && answersTo(asked, answer) {
			copy(answer, query[:2])
			return answer, nil
		}
	}
}

// answersTo reports whether an answer repeats the single question of the query, or contains no
// question, like the answer of a server that could not parse the query. For a query that does not
// have exactly one question, it returns true without a comparison.
func answersTo(query, answer []byte) bool {
	const counts = 4 // QDCOUNT
	if binary.BigEndian.Uint16(query[counts:]) != 1 || binary.BigEndian.Uint16(answer[counts:]) == 0 {
		return true
	}
	end := dnsHeader
	for end < len(query) && query[end] != 0 {
		if query[end]&0xc0 != 0 { // not a label
			return true
		}
		end += 1 + int(query[end])
	}
	end += 1 + 4 // the root label, QTYPE, QCLASS
	return end > len(query) || end <= len(answer) && bytes.Equal(query[dnsHeader:end], answer[dnsHeader:end])
}

// servFail returns the SERVFAIL answer to a query.
func servFail(query []byte) []byte {
	a := bytes.Clone(query)
	a[2] |= 0x80 // QR
	a[3] = a[3]&0xf0 | dnsServFail
	return a
}
