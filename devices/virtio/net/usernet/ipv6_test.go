package usernet

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"minivmm/internal/testbed/testenv"
)

func resolvConfOf(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func isRefused(err error) bool { return err != nil && strings.Contains(err.Error(), "refused") }

func TestIPv6GoesOutAndBack(t *testing.T) {
	g := boot(t, Config{}, all)
	c, err := g.dial(t, serverAt(t, loopback6, echoServer))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask(t, c, 1000)
	u := g.dialUDP(t, udpEchoAt(t, loopback6))
	for _, size := range []int{1, 1452, 1453, 9000} {
		ask(t, u, size)
	}
}

// A guest that configures itself gets an address, a router and a name server.
func TestAGuestConfiguresItself(t *testing.T) {
	for _, out := range []bool{true, false} {
		disp := &slaac{address: make(chan netip.Addr, 4), router: make(chan netip.Addr, 4), dns: make(chan netip.Addr, 4)}
		g := bootWith(t, Config{hostHasIPv6: func() bool { return out }, resolvConf: "/nonexistent"}, all, ipv6.NewProtocolWithOptions(ipv6.Options{
			NDPConfigs: ipv6.DefaultNDPConfigurations(), AutoGenLinkLocal: true, NDPDisp: disp,
		}))
		if a := receiveFrom(t, disp.dns); a != gateway6 {
			t.Errorf("name server %v", a)
		}
		a := receiveFrom(t, disp.address)
		for a.IsLinkLocalUnicast() {
			a = receiveFrom(t, disp.address)
		}
		if !network6.Contains(a) {
			t.Errorf("address %v", a)
		}
		if out {
			if r := receiveFrom(t, disp.router); r != router6 {
				t.Errorf("router %v", r)
			}
			c, err := g.dial(t, serverAt(t, loopback6, echoServer))
			if err != nil {
				t.Fatal(err)
			}
			ask(t, c, 1000)
			c.Close()
		} else if len(disp.router) > 0 {
			t.Errorf("router %v", <-disp.router)
		}
		g.halt()
	}
}

// slaac records what a guest learns from router advertisements.
type slaac struct{ address, router, dns chan netip.Addr }

func (s *slaac) OnOffLinkRouteUpdated(_ tcpip.NICID, _ tcpip.Subnet, router tcpip.Address, _ header.NDPRoutePreference) {
	s.router <- addr(router)
}

func (s *slaac) OnAutoGenAddress(_ tcpip.NICID, a tcpip.AddressWithPrefix) stack.AddressDispatcher {
	s.address <- addr(a.Address)
	return nil
}

func (s *slaac) OnRecursiveDNSServerOption(_ tcpip.NICID, all []tcpip.Address, _ time.Duration) {
	s.dns <- addr(all[0])
}

func (*slaac) OnDuplicateAddressDetectionResult(tcpip.NICID, tcpip.Address, stack.DADResult) {}
func (*slaac) OnOffLinkRouteInvalidated(tcpip.NICID, tcpip.Subnet, tcpip.Address)            {}
func (*slaac) OnOnLinkPrefixDiscovered(tcpip.NICID, tcpip.Subnet)                            {}
func (*slaac) OnOnLinkPrefixInvalidated(tcpip.NICID, tcpip.Subnet)                           {}
func (*slaac) OnAutoGenAddressDeprecated(tcpip.NICID, tcpip.AddressWithPrefix)               {}
func (*slaac) OnAutoGenAddressInvalidated(tcpip.NICID, tcpip.AddressWithPrefix)              {}
func (*slaac) OnDNSSearchListOption(tcpip.NICID, []string, time.Duration)                    {}
func (*slaac) OnDHCPv6Configuration(tcpip.NICID, ipv6.DHCPv6ConfigurationFromNDPRA)          {}

// receiveFrom returns the next value of a channel. It fails the test if none arrives.
func receiveFrom[T any](t testing.TB, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(testenv.Patience):
		t.Fatal("timeout waiting for a value")
	}
	return v
}
