package usernet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"

	"context"
	"fmt"
	"os"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"minivmm/devices/virtio/virtiotest"
)

// published starts a guest with a published port. open returns both ends of a new connection
// through it.
func published(t *testing.T) (g *guest, open func() (host *net.TCPConn, guest *gonet.TCPConn)) {
	port := freePort(t)
	g = boot(t, Config{Ports: []Port{{Host: port, To: 80}}}, all)
	l, err := gonet.ListenTCP(g.Stack, tcpip.FullAddress{Port: 80}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return g, func() (*net.TCPConn, *gonet.TCPConn) {
		t.Helper()
		h, err := net.Dial("tcp", port.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		end := time.Now().Add(testenv.Patience)
		h.SetDeadline(end)
		c.SetDeadline(end)
		return h.(*net.TCPConn), c.(*gonet.TCPConn)
	}
}

func TestAHalfClosePassesThroughAPublishedPort(t *testing.T) {
	_, open := published(t)
	for range 2 {
		h, g := open()
		half := func(one, other interface {
			io.ReadWriter
			CloseWrite() error
		}) {
			io.WriteString(one, "question")
			one.CloseWrite()
			if b, err := io.ReadAll(other); string(b) != "question" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
			io.WriteString(other, "answer")
			other.CloseWrite()
			if b, err := io.ReadAll(one); string(b) != "answer" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		}
		half(h, g)
		h, g = open()
		half(g, h)
	}
}

func TestAResetPassesThroughAPublishedPort(t *testing.T) {
	g, open := published(t)
	h, c := open()
	abort(h)
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("guest reads: %v", err)
	}
	h, _ = open()
	g.abort()
	if _, err := h.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("host reads: %v", err)
	}
}

func TestAPortClosedInTheGuestIsReset(t *testing.T) {
	port := freePort(t)
	boot(t, Config{Ports: []Port{{Host: port, To: 81}}}, all)
	h, err := net.Dial("tcp", port.String())
	if err == nil { // the reset may also come before connect(2) returns
		defer h.Close()
		h.SetDeadline(time.Now().Add(testenv.Patience))
		_, err = h.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// A host or guest that does not read accepts no more than the buffers on the path
// hold. When it starts to read it gets everything.
func TestBackPressurePassesThroughAPublishedPort(t *testing.T) {
	_, open := published(t)
	run := func(name string, from io.WriteCloser, to io.Reader) {
		stalls(t, name, pressAgainst(from))
		if n, err := io.Copy(io.Discard, to); n != pressed || err != nil {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	h, g := open()
	run("to the guest", h, g)
	h, g = open()
	run("to the host", g, h)
}

func TestIPv6PortsOfTheHost(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Log("this host has no IPv6")
		return
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	if _, err := New(Config{Ports: []Port{{Host: at, To: 80}}}); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), at.String()+":80/tcp") {
		t.Error(err)
	}
	l.Close()
	g := boot(t, Config{Ports: []Port{{Host: at, To: 80}}}, all)
	gl, err := gonet.ListenTCP(g.Stack, tcpip.FullAddress{Port: 80}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer gl.Close()
	go func() {
		if c, err := gl.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask(t, c, 100)
}

func TestPortHolder(t *testing.T) {
	const (
		listens = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0"
		all6    = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0"
		talks   = "   2: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0"
		udp     = "  17: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 4711 2 0 0"
	)
	for _, c := range []struct {
		host string
		udp  bool
		line string
		want bool
	}{
		{"127.0.0.1:8080", false, listens, true},
		{"127.0.0.1:8081", false, listens, false},
		{"127.0.0.2:8080", false, listens, false},
		{"0.0.0.0:8080", false, listens, true},
		{"[::]:8080", false, listens, true},
		{"[::1]:8080", false, listens, false},
		{"127.0.0.1:8080", false, all6, true},
		{"[::1]:8080", false, all6, true},
		{"127.0.0.1:8080", false, talks, false},
		{"127.0.0.1:8080", false, udp, false},
		{"127.0.0.1:8080", true, udp, true},
		{"127.0.0.1:8080", false, "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", false},
		{"127.0.0.1:8080", false, "", false},
		{"127.0.0.1:8080", false, "0: 0:0 0 0 0 0 0 0 0 0", false},
	} {
		inode, ok := Port{UDP: c.udp, Host: netip.MustParseAddrPort(c.host)}.takenBy(c.line)
		if ok != c.want || ok && inode != "4711" {
			t.Errorf("%s, %s: %s, %v", c.host, c.line, inode, ok)
		}
	}
}

func TestAPrivilegedPort(t *testing.T) {
	for _, c := range []struct {
		port  uint16
		first int
		want  string
	}{
		{80, 1024, "ip_unprivileged_port_start=80"},
		{1023, 1024, "below 1024"},
		{1024, 1024, ""},
		{80, 80, ""},
		{80, 0, ""}, // unknown
	} {
		got := Port{Host: netip.AddrPortFrom(loopback, c.port)}.privileged(c.first)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d of %d: %q, want %q", c.port, c.first, got, c.want)
		}
	}
}

// A guest may connect again from a port whose connection the outside has closed:
// there is no TIME-WAIT.
func TestAPortThatTheOutsideClosedIsFree(t *testing.T) {
	to := server(t, func(c *net.TCPConn) { c.Close() })
	g := boot(t, Config{}, all)
	for i := range 3 {
		var c *gonet.TCPConn
		for end := time.Now().Add(testenv.Patience); ; {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			var err error
			c, err = gonet.DialTCPWithBind(ctx, g.Stack, tcpip.FullAddress{Addr: address(guestAddr), Port: 4444}, full(to), ipv4.ProtocolNumber)
			cancel()
			if err == nil {
				break
			}
			// The guest's own end closes slightly later.
			if !strings.Contains(err.Error(), "port is in use") || time.Now().After(end) {
				t.Fatalf("connection %d: %v", i, err)
			}
			time.Sleep(time.Millisecond)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
		c.Close()
	}
}

func TestPublishedPortsLeadToTheGuest(t *testing.T) {
	host := freePort(t)
	g := boot(t, Config{Ports: []Port{{Host: host, To: 80}, {UDP: true, Host: host, To: 53}}}, all)
	l, err := gonet.ListenTCP(g.Stack, tcpip.FullAddress{Port: 80}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go acceptAll(l, func(c net.Conn) { io.Copy(c, c); c.Close() })
	u, err := gonet.DialUDP(g.Stack, &tcpip.FullAddress{Port: 53}, nil, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(b[:n], from)
		}
	}()
	for range 3 {
		for _, network := range []string{"tcp", "udp"} {
			c, err := net.Dial(network, host.String())
			if err != nil {
				t.Fatal(err)
			}
			ask(t, c, 1000)
			c.Close()
		}
	}
}

// freePort returns a free port of the loopback.
func freePort(t testing.TB) netip.AddrPort { return freePortAt(t, loopback) }

func freePortAt(t testing.TB, at netip.Addr) netip.AddrPort {
	for { // until TCP and UDP have the port free
		l, err := net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		l.Close()
		if err == nil {
			u.Close()
			return netip.MustParseAddrPort(l.Addr().String())
		}
	}
}

func TestAPortInUseIsAnErrorAtOnce(t *testing.T) {
	to := onLoopback(server(t, echoServer))
	before := virtiotest.TakeFootprint(t)
	_, err := New(Config{Ports: []Port{{Host: freePort(t), To: 1}, {Host: to, To: 2}}})
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(fmt.Sprint(err), to.String()+":2/tcp") ||
		!strings.Contains(fmt.Sprint(err), fmt.Sprintf("(process %d, ", os.Getpid())) {
		t.Error(err)
	}
	before.Holds(t)
}
