package usernet

import (
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// stationTTL is how long a guest may cache a machine's address. Machines come and go.
const stationTTL = 5 // seconds

// hostNames returns the host's resolver configuration, with the network's domain searched first.
func (s *session) hostNames() resolvConf {
	c := readResolvConf(s.cfg.resolvConf)
	if s.lan != nil {
		c.search = append([]string{s.domain()[1:]}, c.search...)
	}
	return c
}

// readsNames reports whether the gateway must parse DNS queries. Otherwise it forwards them unread.
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

// station returns the address of a machine on the guest's named network. name is the machine's name
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

// learnFrom passes addresses from an answer of the host's resolvers to the policy: those of an
// allowed name and of the names that it is an alias of.
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
	ep, wq, terr := s.handshake(ctx, r)
	end()
	r.Complete(terr != nil)
	if terr != nil {
		return
	}
	s.carry(&s.out, &guestEnd{ep: ep, wq: wq}, func() { s.serveNames(gonet.NewTCPConn(wq, ep)) })
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
