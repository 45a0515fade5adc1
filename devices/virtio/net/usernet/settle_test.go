package usernet

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"minivmm/internal/testbed/testenv"
)

// narrow lets a guest take little of a connection before it reads.
func (g *guest) narrow(t testing.TB) {
	t.Helper()
	window := tcpip.TCPReceiveBufferSizeRangeOption{Min: 1, Default: 4 << 10, Max: 4 << 10}
	if err := g.SetTransportProtocolOption(tcp.ProtocolNumber, &window); err != nil {
		t.Fatal(err)
	}
}

// keeps waits until that many connections have a place, and buffers.
func (g *guest) keeps(t testing.TB, conns int) {
	t.Helper()
	for end := time.Now().Add(testenv.Patience); ; time.Sleep(time.Millisecond) {
		n, size := g.b.Counters().Connections, g.lent()
		if n == conns && (size > 0) == (conns > 0) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections with %d bytes of buffers, want %d", n, size, conns)
		}
	}
}

// lent is how much of bufferBudget is taken.
func (g *guest) lent() int {
	b := &g.b.live.Load().buffers
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// A guest that ends connections without taking what they sent has no more of them than one that does not: what waits for
// it is memory of the host's.
func TestWhatTheGuestHasNotTakenKeepsItsPlace(t *testing.T) {
	served := make(chan struct{}, 1)
	to := server(t, func(c *net.TCPConn) {
		io.Copy(c, io.LimitReader(zeroes{}, 12<<10))
		c.CloseWrite()
		io.Copy(io.Discard, c) // until the guest has ended it too
		c.Close()
		served <- struct{}{}
	})
	g := boot(t, Config{}, all)
	g.narrow(t)
	var all []*gonet.TCPConn
	for {
		c, err := g.dial(t, to)
		if err != nil { // one too many is reset
			break
		}
		all = append(all, c)
		if len(all) > maxConnsWay {
			t.Fatalf("%d connections", len(all))
		}
		c.CloseWrite()
		receiveFrom(t, served)
	}
	if len(all) < maxConnsWay {
		t.Errorf("%d connections, want %d", len(all), maxConnsWay)
	}
	const some = 10
	for _, c := range all[len(all)-some:] {
		c.SetDeadline(time.Now().Add(testenv.Patience))
		if n, err := io.Copy(io.Discard, c); n != 12<<10 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		c.Close()
	}
	g.keeps(t, len(all)-some)
	g.abort()
	g.keeps(t, 0)
}

// Connections to the gateway's name server have their share of the buffers too, until the guest has what they sent.
func TestBuffersOfAllConnectionsAreOfTheBudget(t *testing.T) {
	cfg := answering(t, nil)
	cfg.Policy.Deny = []Rule{{Host: "bad.example"}}
	g := boot(t, cfg, all)
	m := g.lookup(t, "tcp", "bad.example.") // it ends its connection
	if len(m.Answers) != 0 {
		t.Errorf("answers %v", m.Answers)
	}
	g.keeps(t, 0)
	c, err := g.dial(t, netip.AddrPortFrom(gateway, dnsPort))
	if err != nil {
		t.Fatal(err)
	}
	g.keeps(t, 1)
	c.Close()
	g.keeps(t, 0)
}

// What ends connections when a context ends runs in goroutines of its own, and a panic of the stack there costs the NIC too.
func TestAPanicWhereAContextEndsCostsTheNIC(t *testing.T) {
	failed := make(chan error, 1)
	s := &session{failed: func(err error) { failed <- err }}
	ctx, cancel := context.WithCancel(t.Context())
	defer s.afterFunc(ctx, func() { panic("out of order") })()
	cancel()
	if err := receiveFrom(t, failed); err == nil {
		t.Error(err)
	}
}
