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

// narrow gives a guest a small receive window, so that it accepts little data before it reads.
func (g *guest) narrow(t testing.TB) {
	t.Helper()
	window := tcpip.TCPReceiveBufferSizeRangeOption{Min: 1, Default: 4 << 10, Max: 4 << 10}
	if err := g.SetTransportProtocolOption(tcp.ProtocolNumber, &window); err != nil {
		t.Fatal(err)
	}
}

// keeps waits until exactly this number of connections is counted and has buffers.
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

// lent returns how much of bufferBudget is in use.
func (g *guest) lent() int {
	b := &g.b.live.Load().buffers
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// A guest that closes connections without reading their data gets no additional ones: the waiting
// data uses the host's memory.
func TestUnreadDataKeepsItsConnectionCounted(t *testing.T) {
	served := make(chan struct{}, 1)
	to := server(t, func(c *net.TCPConn) {
		io.Copy(c, io.LimitReader(zeroes{}, 12<<10))
		c.CloseWrite()
		io.Copy(io.Discard, c) // until the guest has closed it too
		c.Close()
		served <- struct{}{}
	})
	g := boot(t, Config{}, all)
	g.narrow(t)
	var all []*gonet.TCPConn
	for {
		c, err := g.dial(t, to)
		if err != nil { // a connection over the limit is reset
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

// Connections to the gateway's name server count in the buffer budget too, until the guest has
// received their data.
func TestAllConnectionsCountInTheBufferBudget(t *testing.T) {
	cfg := answering(t, nil)
	cfg.Policy.Deny = []Rule{{Host: "bad.example"}}
	g := boot(t, cfg, all)
	m := g.lookup(t, "tcp", "bad.example.") // closes its connection
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

// Functions that close connections at the end of a context run in separate goroutines. A panic of
// the stack there stops only the NIC, too.
func TestAPanicInAfterFuncStopsOnlyTheNIC(t *testing.T) {
	failed := make(chan error, 1)
	s := &session{failed: func(err error) { failed <- err }}
	ctx, cancel := context.WithCancel(t.Context())
	defer s.afterFunc(ctx, func() { panic("out of order") })()
	cancel()
	if err := receiveFrom(t, failed); err == nil {
		t.Error(err)
	}
}
