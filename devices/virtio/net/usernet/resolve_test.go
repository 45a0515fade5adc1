package usernet

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// resolver starts a name server at an address of the loopback. It answers every query with
// answer(query).
func resolver(t testing.TB, at netip.AddrPort, answer func(q []byte) []byte) netip.AddrPort {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			if a := answer(bytes.Clone(b[:n])); a != nil {
				c.WriteToUDPAddrPort(a, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// question returns a DNS query for a name of one byte.
func question(id byte, name byte) []byte {
	return []byte{0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, name, 0, 0, 28, 0, 1}
}

// resolve returns the gateway's answer to q.
func (g *guest) resolve(t testing.TB, server netip.Addr, q []byte) []byte {
	t.Helper()
	c := g.dialUDP(t, netip.AddrPortFrom(server, dnsPort))
	defer c.Close()
	c.SetDeadline(time.Now().Add(testenv.Patience))
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 65536)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestQueriesGoToTheHostsCurrentResolvers(t *testing.T) {
	says := func(what string) func([]byte) []byte {
		return func(q []byte) []byte { return append(q, what...) }
	}
	at := resolver(t, netip.MustParseAddrPort("127.0.0.2:0"), says("two"))
	resolver(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), at.Port()), says("three"))
	resolver(t, netip.AddrPortFrom(loopback6, at.Port()), says("six"))
	conf := resolvConfOf(t, "nameserver 127.0.0.2\n")
	g := boot(t, Config{resolvConf: conf, resolverPort: at.Port()}, all)
	for _, c := range []struct{ conf, want string }{
		{"nameserver 127.0.0.2\n", "two"},
		{"nameserver 127.0.0.3\n", "three"},
		{"nameserver ::1\n", "six"},
		{"nameserver 127.0.0.9\nnameserver 127.0.0.2\n", "two"}, // there is no server at .9
		{"nameserver 127.0.0.9\n", ""},
	} {
		if err := os.WriteFile(conf, []byte(c.conf), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, server := range []netip.Addr{gateway, gateway6} {
			q := question(1, 'a')
			want := append(bytes.Clone(q), c.want...)
			if c.want == "" {
				want = bytes.Clone(q)
				want[2], want[3] = 0x81, 2 // SERVFAIL
			}
			if got := g.resolve(t, server, q); !bytes.Equal(got, want) {
				t.Errorf("%q: %v answers % x, want % x", c.conf, server, got, want)
			}
		}
	}
}

// A silent resolver does not keep others from being asked, nor other
// queries from being answered. A packet that does not answer the query is
// ignored.
func TestSilentResolvers(t *testing.T) {
	asked := make(chan struct{}, 10000)
	at := resolver(t, netip.MustParseAddrPort("127.0.0.2:0"), func(q []byte) []byte {
		asked <- struct{}{}
		switch q[13] {
		case 'a':
			return append(q, "yes"...)
		case 'w':
			q[1]++
			return q
		}
		return nil
	})
	resolver(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), at.Port()), func(q []byte) []byte {
		if q[13] == 'w' {
			return append(q, "right"...)
		}
		return nil
	})
	w := plug(t, Config{resolvConf: resolvConfOf(t, "nameserver 127.0.0.2\nnameserver 127.0.0.3\n"), resolverPort: at.Port()})
	w.flood(t, 1000, func(i int) []byte {
		return guestUDPFrame(netip.AddrPortFrom(guestAddr, uint16(1000+i)), netip.AddrPortFrom(gateway, dnsPort), 64, string(question(byte(i), 's')))
	})
	for range maxQueries / 2 { // a query that was replaced by another may not have been sent
		receiveFrom(t, asked)
	}
	start := time.Now()
	for _, c := range []struct {
		name byte
		want string
	}{{'a', "yes"}, {'w', "right"}} {
		q := question(7, c.name)
		w.send(t, guestUDPFrame(netip.AddrPortFrom(guestAddr, 99), netip.AddrPortFrom(gateway, dnsPort), 64, string(q)))
		if src, _, m := w.ipPacket(t); src != gateway || string(header.UDP(m).Payload()) != string(q)+c.want {
			t.Errorf("% x", m)
		}
		if d := time.Since(start); c.name == 'a' && d > 2*time.Second {
			t.Errorf("took %v", d)
		}
	}
}

func TestAnswersOfAnySizeArrive(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 20000)
	at := resolver(t, netip.AddrPortFrom(loopback, 0), func(q []byte) []byte { return append(q, big[:int(q[dnsHeader+1])*100]...) })
	g := boot(t, Config{resolvConf: resolvConfOf(t, "nameserver 127.0.0.1\n"), resolverPort: at.Port()}, all)
	for _, server := range []netip.Addr{gateway, gateway6} {
		for _, hundreds := range []byte{5, 12, 15, 40, 200} {
			q := question(7, hundreds)
			if got := g.resolve(t, server, q); len(got) != len(q)+100*int(hundreds) {
				t.Errorf("%d bytes of %d", len(got), len(q)+100*int(hundreds))
			}
		}
	}
}

func TestAttempts(t *testing.T) {
	a := newAttempts[int](8, time.Hour)
	begin := func(to int) context.Context {
		ctx, _ := a.begin(context.Background(), to)
		return ctx
	}
	live := func(all []context.Context) (n int) {
		for _, c := range all {
			if c.Err() == nil {
				n++
			}
		}
		return n
	}
	first := begin(1)
	var flood []context.Context
	for range 100 {
		flood = append(flood, begin(2))
	}
	if first.Err() != nil || live(flood) != 2 || flood[99].Err() != nil || flood[98].Err() != nil {
		t.Errorf("a flood to one destination left %d of its attempts, and the other destination: %v", live(flood), first.Err())
	}
	var others []context.Context
	for i := range 100 {
		others = append(others, begin(10+i))
	}
	if first.Err() == nil || live(flood) != 0 || live(others) != 8 || others[99].Err() != nil {
		t.Errorf("%d attempts of the other destinations are left", live(others))
	}
	for range 3 {
		_, end := a.begin(context.Background(), 5)
		end()
		end()
	}
	if len(a.all) != 7 {
		t.Errorf("%d attempts are left after one ended", len(a.all))
	}
}

func TestOnlyAnswersToTheQueryAreAccepted(t *testing.T) {
	ask := question(7, 'a')
	with := func(change func(a []byte) []byte) []byte { return change(bytes.Clone(ask)) }
	for name, c := range map[string]struct {
		query, answer []byte
		want          bool
	}{
		"the question":           {ask, append(bytes.Clone(ask), "answer"...), true},
		"no question":            {ask, with(func(a []byte) []byte { a[5] = 0; return a[:dnsHeader] }), true},
		"another name":           {ask, question(7, 'b'), false},
		"another type":           {ask, with(func(a []byte) []byte { a[16]++; return a }), false},
		"cut":                    {ask, ask[:len(ask)-1], false},
		"a query with a pointer": {with(func(a []byte) []byte { a[12] = 0xc0; return a }), question(7, 'b'), true},
		"a cut query":            {ask[:len(ask)-1], question(7, 'b'), true},
	} {
		if got := answersTo(c.query, c.answer); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The loopback has a broadcast address too.
func TestDatagramsDoNotGoToBroadcastAddresses(t *testing.T) {
	if c, err := dialUDP(netip.MustParseAddrPort("127.255.255.255:9")); !errors.Is(err, syscall.EACCES) {
		t.Errorf("%v, %v", c, err)
	}
}
