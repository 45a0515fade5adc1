package usernet

import (
	"net"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"minivmm/internal/testbed/testenv"
)

// TestFlowsAreShared floods with the flows of one owner and checks how many the others keep.
func TestFlowsAreShared(t *testing.T) {
	var guest *net.UDPConn
	web, dns := new(net.UDPConn), new(net.UDPConn)
	type shares map[*net.UDPConn]int
	for _, tt := range []struct {
		name   string
		before shares
		flood  *net.UDPConn
		want   shares
	}{
		{"a port floods an idle guest", shares{guest: 1}, dns, shares{guest: 1, dns: maxFlows - 1}},
		{"a guest floods an idle port", shares{dns: 3}, guest, shares{guest: maxFlows - 3, dns: 3}},
		{"a port floods another", shares{guest: 100, web: 100}, dns, shares{guest: 100, web: 100, dns: maxFlows - 200}},
		{"a port floods a guest that has all flows", shares{guest: maxFlows}, dns, shares{guest: maxFlows / 2, dns: maxFlows / 2}},
		{"a port floods a guest and a port that share all flows", shares{guest: maxFlows / 2, web: maxFlows / 2}, dns, shares{guest: maxFlows / 3, web: maxFlows / 3, dns: maxFlows - 2*(maxFlows/3)}},
		{"a guest floods alone", shares{}, guest, shares{guest: maxFlows}},
	} {
		s := newFlows()
		left := shares{}
		add := func(who *net.UDPConn) {
			left[who]++
			ended := false
			s.add(&flow{origin: who, close: func() {
				if !ended {
					left[who]--
				}
				ended = true
			}})
		}
		for who, n := range tt.before {
			for range n {
				add(who)
			}
		}
		for range 3 * maxFlows {
			add(tt.flood)
		}
		for who, n := range tt.want {
			// Which of two equal owners loses a flow is random.
			if d := left[who] - n; d < -2 || d > 2 {
				t.Errorf("%s: %d left, want %d", tt.name, left[who], n)
			}
		}
		s.expire(time.Now().Add(time.Hour))
		if len(s.all) != 0 {
			t.Errorf("%s: %d flows are left after all ended", tt.name, len(s.all))
		}
	}
}

// TestFlowsOfMorePortsThanThereAreFlows: among ports with one client each, the flow that was idle
// longest is replaced.
func TestFlowsOfMorePortsThanThereAreFlows(t *testing.T) {
	s := newFlows()
	ended := 0
	for i := range 2 * maxFlows {
		s.add(&flow{origin: new(net.UDPConn), close: func() {
			if i != ended {
				t.Errorf("flow %d ended, want %d", i, ended)
			}
			ended++
		}})
		if want := min(i+1, maxFlows); len(s.all) != want {
			t.Fatalf("%d flows after %d", len(s.all), i+1)
		}
	}
}

// TestAFloodIntoAPortLeavesTheGuestItsFlows: clients flood a published port. A request that the
// guest sent earlier is still answered, and so are the clients of another port.
func TestAFloodIntoAPortLeavesTheGuestItsFlows(t *testing.T) {
	dns, web := freePort(t), freePort(t)
	g := boot(t, Config{Ports: []Port{{UDP: true, Host: dns, To: 53}, {UDP: true, Host: web, To: 443}}}, all)
	for _, port := range []uint16{53, 443} {
		inside, err := gonet.DialUDP(g.Stack, &tcpip.FullAddress{Port: port}, nil, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { inside.Close() })
		go func() {
			b := make([]byte, 2048)
			for {
				n, from, err := inside.ReadFrom(b)
				if err != nil {
					return
				}
				inside.WriteTo(b[:n], from)
			}
		}()
	}
	client := func(port string) net.Conn {
		c, err := net.Dial("udp", port)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ask(t, c, 5)
		return c
	}
	outside, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(freePort(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	outside.SetDeadline(time.Now().Add(testenv.Patience))
	own := g.dialUDP(t, theirs(outside.LocalAddr().String()))
	own.SetDeadline(time.Now().Add(testenv.Patience))
	own.Write([]byte("question"))
	b := make([]byte, 100)
	_, flow, err := outside.ReadFromUDPAddrPort(b)
	if err != nil {
		t.Fatal(err)
	}
	bystander := client(web.String())

	for range maxFlows + 10 {
		client(dns.String())
	}
	outside.WriteToUDPAddrPort([]byte("answer"), flow)
	if n, err := own.Read(b); err != nil || string(b[:n]) != "answer" {
		t.Errorf("the guest's own flow: %q, %v", b[:n], err)
	}
	ask(t, bystander, 5)
}
