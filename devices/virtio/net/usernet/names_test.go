package usernet

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"

	"golang.org/x/net/dns/dnsmessage"
)

// serveDNS answers queries over UDP and TCP on one port of the loopback, and returns that port.
func serveDNS(t testing.TB, answer func(dnsmessage.Message) dnsmessage.Message) uint16 {
	var l net.Listener
	var u net.PacketConn
	for u == nil { // until both get the same port
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if u, err = net.ListenPacket("udp", l.Addr().String()); err != nil {
			l.Close()
		}
	}
	t.Cleanup(func() { l.Close(); u.Close() })
	reply := func(b []byte) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil {
			t.Error(err)
			return nil
		}
		m = answer(m)
		out, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return out
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(reply(b[:n]), from)
		}
	}()
	go acceptAll(l, func(c net.Conn) {
		defer c.Close()
		for {
			q, err := readMessage(c)
			if err != nil {
				return
			}
			writeMessage(c, reply(q))
		}
	})
	return netip.MustParseAddrPort(l.Addr().String()).Port()
}

// lookup asks the gateway for the addresses of a name.
func (g *guest) lookup(t testing.TB, network, name string) (m dnsmessage.Message) {
	t.Helper()
	return g.query(t, network, dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET})
}

func (g *guest) query(t testing.TB, network string, questions ...dnsmessage.Question) (m dnsmessage.Message) {
	t.Helper()
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 77, RecursionDesired: true}, Questions: questions}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(gateway, dnsPort)
	var answer []byte
	if network == "udp" {
		c := g.dialUDP(t, to)
		c.SetDeadline(time.Now().Add(testenv.Patience))
		answer = make([]byte, 4096)
		if _, err = c.Write(b); err == nil {
			var n int
			n, err = c.Read(answer)
			answer = answer[:n]
		}
	} else {
		c, derr := g.dial(t, to)
		if derr != nil {
			t.Fatal(derr)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(testenv.Patience))
		if err = writeMessage(c, b); err == nil {
			answer, err = readMessage(c)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Unpack(answer); err != nil || m.ID != 77 || !m.Response {
		t.Fatalf("%v, %v", m, err)
	}
	return m
}

func TestMalformedQueriesAreNotForwarded(t *testing.T) {
	cfg := answering(t, func(string) []dnsmessage.Resource {
		t.Error("the query left the host")
		return nil
	})
	cfg.Policy.Allow = prefixes("example.com")
	g := boot(t, cfg, all)
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	evil := dnsmessage.Question{Name: dnsmessage.MustNewName("evil.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	for _, network := range []string{"udp", "tcp"} {
		for _, questions := range [][]dnsmessage.Question{{q, evil}, {}} {
			if m := g.query(t, network, questions...); m.RCode != dnsmessage.RCodeFormatError {
				t.Errorf("%v", m)
			}
		}
	}
}

// FuzzNames: no query from a guest and no answer from a resolver crashes the parser, and a name
// that is not allowed opens no address.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"good.example.", "GOOD.EXAMPLE.", "evil.example."} {
		m := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 1, Response: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}},
			Answers:   []dnsmessage.Resource{resource(name, &dnsmessage.AResource{A: outside.As4()})},
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		b[2] &^= 0x80 // a query
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &session{shared: shared{policy: newPolicy(Policy{Allow: prefixes("good.example")})}}
		if answer := s.ownAnswer(b); len(answer) > 0 {
			var m dnsmessage.Message
			if err := m.Unpack(answer); err != nil || !m.Response {
				t.Errorf("%v, %v", m, err)
			}
		}
		s.learnFrom(b)
		if len(s.policy.known) > 0 {
			var p dnsmessage.Parser
			p.Start(b)
			if q, err := p.Question(); err != nil || canonical(q.Name) != "good.example" {
				t.Errorf("%v opened %v", q, s.policy.known)
			}
		}
	})
}
