package usernet

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func prefixes(list ...string) (out []Rule) {
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, Rule{Prefix: p})
		} else {
			out = append(out, Rule{Host: s})
		}
	}
	return out
}

func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		name        string
		allow, deny []string
		yes, no     string
	}{
		{"none", nil, nil, "1.1.1.1 10.1.1.1 fd00::1 2001:db8::1",
			"127.0.0.1 169.254.169.254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe ::ffff:0:a9fe:a9fe 2002:a9fe:a9fe:: :: 0.0.0.0 ::1 fe80::1 fd00:ec2::254 100.100.100.200 168.63.129.16"},
		{"only what is allowed", []string{"10.0.0.0/8", "2001:db8::/32"}, nil, "10.1.1.1 2001:db8::1 ::ffff:10.1.1.1", "1.1.1.1 fd00::1 127.0.0.1"},
		{"deny beats allow", []string{"10.0.0.0/8"}, []string{"10.1.0.0/16"}, "10.2.1.1", "10.1.1.1 ::ffff:10.1.1.1 1.1.1.1"},
		{"deny alone", nil, []string{"192.168.0.0/16", "fd00::/8"}, "1.1.1.1 2001:db8::1", "192.168.1.1 fd00::1 64:ff9b::c0a8:101 2002:c0a8:101:: 127.0.0.1"},
		{"everything does not open the loopback", []string{"0.0.0.0/0", "::/0"}, nil, "1.1.1.1 2001:db8::1", "127.0.0.1 ::1 169.254.169.254 fe80::1 224.0.0.1 255.255.255.255 0.0.0.0 :: ::ffff:127.0.0.1 64:ff9b::7f00:1 fd00:ec2::254"},
		{"a specific rule opens it", []string{"127.0.0.1/32", "169.254.0.0/16", "::1/128", "1.0.0.0/8"}, nil, "127.0.0.1 ::ffff:127.0.0.1 169.254.169.254 ::1 1.1.1.1", "127.0.0.2 64:ff9b::7f00:1 8.8.8.8"},
		{"deny beats a specific rule", []string{"127.0.0.0/8"}, []string{"127.0.0.1/32"}, "127.0.0.2", "127.0.0.1"},
		{"never reachable", []string{"0.0.0.0/32", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff02::/16"}, nil, "", "0.0.0.0 224.0.0.1 255.255.255.255 :: ff02::1"},
		{"a name alone opens nothing", []string{"example.com"}, nil, "", "1.1.1.1 127.0.0.1"},
	} {
		p := newPolicy(Policy{Allow: prefixes(c.allow...), Deny: prefixes(c.deny...)})
		for want, list := range map[bool]string{true: c.yes, false: c.no} {
			for a := range strings.FieldsSeq(list) {
				if p.allowed(netip.MustParseAddr(a)) != want {
					t.Errorf("%s: %s: want %v", c.name, a, want)
				}
			}
		}
	}
	if newPolicy(Policy{Isolated: true}).allowed(netip.MustParseAddr("1.1.1.1")) {
		t.Error("isolated")
	}
}

func TestNamesOfAPolicy(t *testing.T) {
	p := newPolicy(Policy{Allow: prefixes("example.com", "*.example.org"), Deny: prefixes("*.bad.example.org", "10.0.0.0/8")})
	for name, want := range map[string]bool{
		"example.com": true, "www.example.com": false, "a.example.org": true, "a.b.example.org": true, "example.org": false,
		"notexample.org": false, "x.bad.example.org": false, "bad.example.org": true, "": false,
	} {
		if p.resolves(name) != want {
			t.Errorf("%s: want %v", name, want)
		}
	}
	if p = newPolicy(Policy{Deny: prefixes("example.com")}); !p.resolves("other.example") || p.resolves("example.com") {
		t.Error("deny alone")
	}
}

func TestLearnedAddressesExpireAndAreBounded(t *testing.T) {
	p := newPolicy(Policy{Allow: prefixes("example.com")})
	now := time.Now()
	a := netip.MustParseAddr("192.0.2.1")
	p.learn(a, 0, now)
	if !p.knows(a, now.Add(minLearned-1)) || p.knows(a, now.Add(minLearned)) {
		t.Error("the minimum time is wrong")
	}
	p.learn(a, time.Hour, now)
	p.learn(a, time.Second, now)
	if !p.knows(a, now.Add(time.Hour-1)) {
		t.Error("a later answer shortened the time")
	}
	p.learn(a, 1000*time.Hour, now)
	if p.knows(a, now.Add(maxLearned)) {
		t.Error("the maximum time is wrong")
	}
	b := netip.MustParseAddr("2001:db8::")
	for range maxKnown + 100 {
		b = b.Next()
		p.learn(b, time.Minute, now)
	}
	if len(p.known) > maxKnown || !p.knows(b, now) || !p.knows(a, now) {
		t.Errorf("%d known", len(p.known))
	}
}

func TestRefusalsAreLoggedOnceAndBounded(t *testing.T) {
	var lines []string
	r := &refusals{logf: func(f string, a ...any) { lines = append(lines, fmt.Sprintf(f, a...)) }, seen: map[netip.Addr]struct{}{}}
	a := netip.MustParseAddr("10.0.0.1")
	for range 3 * maxRefusals {
		r.note(a)
		r.note(a)
		a = a.Next()
	}
	if len(lines) != maxRefusals || lines[0] != "the guest may not reach 10.0.0.1" || !strings.HasSuffix(lines[maxRefusals-1], "further refusals are not logged") {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}

// answering returns the configuration of a host whose resolver answers every query for a name with
// its addresses, over UDP and TCP.
func answering(t testing.TB, answers func(name string) []dnsmessage.Resource) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return Config{resolvConf: file, resolverPort: serveDNS(t, func(q dnsmessage.Message) dnsmessage.Message {
		q.Response = true
		q.Answers = answers(strings.ToLower(q.Questions[0].Name.String()))
		return q
	})}
}

func resource(name string, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: 1}, Body: body}
}

// The addresses of an allowed name open when the guest has asked for it, over UDP or
// TCP. Other names open nothing, whatever the answer.
func TestAnAllowedNamesAddressesOpen(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			cfg := answering(t, func(name string) []dnsmessage.Resource {
				switch name {
				case "good.example.":
					return []dnsmessage.Resource{
						resource("good.example.", &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("host.example.")}),
						resource("host.example.", &dnsmessage.AResource{A: outside.As4()}),
						resource("good.example.", &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}),
						resource("other.example.", &dnsmessage.AResource{A: [4]byte{192, 0, 2, 2}}),
						resource("good.example.", &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}),
					}
				}
				return []dnsmessage.Resource{resource(name, &dnsmessage.AResource{A: [4]byte{192, 0, 2, 3}})}
			})
			cfg.Policy = Policy{Allow: prefixes("good.example", "*.wild.example"), Deny: prefixes("bad.wild.example")}
			var mu sync.Mutex
			var log []string
			cfg.Logf = func(f string, a ...any) {
				mu.Lock()
				defer mu.Unlock()
				log = append(log, fmt.Sprintf(f, a...))
			}
			to := server(t, echoServer)
			g := boot(t, cfg, all)
			if _, err := g.dial(t, to); err == nil {
				t.Fatal("the address is open before the query")
			}
			for _, name := range []string{"evil.example.", "bad.wild.example.", "wild.example."} {
				if m := g.lookup(t, network, name); m.RCode != dnsmessage.RCodeNameError {
					t.Errorf("%s: %v", name, m)
				}
			}
			if m := g.lookup(t, network, "GOOD.example."); len(m.Answers) > 0 && m.RCode != 0 {
				t.Errorf("%v", m)
			}
			if m := g.lookup(t, network, "good.example."); len(m.Answers) != 5 {
				t.Errorf("%v", m)
			}
			c, err := g.dial(t, to)
			if err != nil {
				t.Fatal(err)
			}
			ask(t, c, 10)
			c.Close()
			for _, a := range []string{"192.0.2.2:1", "192.0.2.3:1"} {
				if _, err := g.dial(t, netip.MustParseAddrPort(a)); err == nil || !strings.Contains(err.Error(), "refused") {
					t.Errorf("%s: %v", a, err)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			slices.Sort(log)
			if want := []string{"the guest may not reach 192.0.2.1", "the guest may not reach 192.0.2.2", "the guest may not reach 192.0.2.3"}; !slices.Equal(log, want) {
				t.Errorf("%q", log)
			}
		})
	}
}

// An isolated guest reaches only its gateway, and is reachable only through published
// ports.
func TestAnIsolatedGuest(t *testing.T) {
	cfg := answering(t, func(name string) []dnsmessage.Resource {
		t.Error("a query left the host:", name)
		return nil
	})
	cfg.Policy.Isolated = true
	to := server(t, echoServer)
	g := boot(t, cfg, all)
	start := time.Now()
	if _, err := g.dial(t, to); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
	if m := g.lookup(t, "udp", "example.com."); m.RCode != dnsmessage.RCodeNameError {
		t.Errorf("%v", m)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("refused in %v", d)
	}
}

// The gateway's address is the host's loopback if the policy opens it, separately for each
// address family.
func TestTheLoopbackOpensAtTheGateway(t *testing.T) {
	for _, open := range []netip.Addr{loopback, loopback6} {
		t.Run(open.String(), func(t *testing.T) {
			g := boot(t, Config{Policy: Policy{Allow: prefixes(netip.PrefixFrom(open, open.BitLen()).String())}}, all)
			for _, at := range []netip.Addr{loopback, loopback6} {
				to, u := serverAt(t, at, echoServer), udpEchoAt(t, at)
				c, err := g.dial(t, netip.AddrPortFrom(gatewayFor(at), to.Port()))
				if (err == nil) != (at == open) {
					t.Errorf("%s: %v", at, err)
				}
				if err != nil {
					continue
				}
				ask(t, c, 10)
				c.Close()
				ask(t, g.dialUDP(t, netip.AddrPortFrom(gatewayFor(at), u.Port())), 10)
				if _, err := g.dial(t, theirs(netip.AddrPortFrom(at, to.Port()).String())); err == nil {
					t.Error("other addresses opened too")
				}
			}
		})
	}
}

// A refused packet is answered immediately with the reason, in both address families.
func TestRefusedPacketsAreProhibited(t *testing.T) {
	for _, to := range []netip.Addr{netip.MustParseAddr("192.0.2.3"), netip.MustParseAddr("2001:db8::3")} {
		from, typ, code := guestAddr, uint8(header.ICMPv4DstUnreachable), uint8(prohibited4)
		if to.Is6() {
			from, typ, code = guestAddr6, uint8(header.ICMPv6DstUnreachable), prohibited6
		}
		for name, f := range map[string][]byte{
			"datagram": guestUDPFrame(netip.AddrPortFrom(from, 9), netip.AddrPortFrom(to, 9), 64, "x"), "echo": echoRequest(to),
		} {
			t.Run(name+" to "+to.String(), func(t *testing.T) {
				w := plug(t, Config{Policy: Policy{Isolated: true}})
				w.send(t, f)
				if _, _, m := w.ipPacket(t); m[0] != typ || m[1] != code || !bytes.Contains(m, f[ethBytes:]) {
					t.Errorf("% x", m)
				}
			})
		}
	}
}
