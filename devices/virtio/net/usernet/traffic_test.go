package usernet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"minivmm/devices/virtio"
	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

const all = ^virtio.Features(0)

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{Addr: address(a.Addr()), Port: a.Port()}
}

func (g *guest) dial(t testing.TB, to netip.AddrPort) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience)
	defer cancel()
	return gonet.DialContextTCP(ctx, g.Stack, full(to), networkProtocol(to.Addr()))
}

func (g *guest) dialUDP(t testing.TB, to netip.AddrPort) *gonet.UDPConn {
	a := full(to)
	c, err := gonet.DialUDP(g.Stack, nil, &a, networkProtocol(to.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// server listens on the loopback and serves each connection.
func server(t testing.TB, serve func(*net.TCPConn)) netip.AddrPort {
	return serverAt(t, loopback, serve)
}

func serverAt(t testing.TB, at netip.Addr, serve func(*net.TCPConn)) netip.AddrPort {
	l, err := net.Listen("tcp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go acceptAll(l, func(c net.Conn) { serve(c.(*net.TCPConn)) })
	return theirs(l.Addr().String())
}

// acceptAll serves each connection in a goroutine of its own until the listener is closed.
func acceptAll(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go serve(c)
	}
}

func echoServer(c *net.TCPConn) {
	io.Copy(c, c)
	c.CloseWrite()
	c.Close()
}

var featureSets = map[string]virtio.Features{
	"all":        all,
	"none":       0,
	"no offload": virtio.FeatureRingEventIdx | virtio.FeatureRingIndirectDesc | 1<<15,
	"no merging": all &^ (1<<15 | 1<<7 | 1<<8),
}

func TestTCPGoesOutAndBackWholeUnderAllFeatures(t *testing.T) {
	to := server(t, echoServer)
	for name, features := range featureSets {
		t.Run(name, func(t *testing.T) {
			g := boot(t, Config{}, features)
			c, err := g.dial(t, to)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			data := make([]byte, 1<<20)
			rand.NewChaCha8([32]byte{1}).Read(data)
			go func() {
				c.Write(data)
				c.CloseWrite()
			}()
			h := sha256.New()
			c.SetDeadline(time.Now().Add(testenv.Patience))
			if n, err := io.Copy(h, c); err != nil || !bytes.Equal(h.Sum(nil), sum(data)) {
				t.Errorf("%d bytes came back: %v", n, err)
			}
		})
	}
}

func sum(p []byte) []byte {
	s := sha256.Sum256(p)
	return s[:]
}

// The guest gets the outside's answer.
func TestRefusedAndForbiddenConnectionsAreReset(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := theirs(l.Addr().String())
	l.Close()
	for name, c := range map[string]struct {
		cfg Config
		to  netip.AddrPort
	}{
		"nobody listens": {Config{}, closed},
		"link-local":     {Config{}, netip.MustParseAddrPort("169.254.169.254:80")},
		"this net":       {Config{}, netip.MustParseAddrPort("0.1.2.3:80")},
		"the gateway":    {Config{}, netip.MustParseAddrPort("10.0.2.2:80")},
	} {
		t.Run(name, func(t *testing.T) {
			g := boot(t, c.cfg, all)
			start := time.Now()
			_, err := g.dial(t, c.to)
			if err == nil || !strings.Contains(err.Error(), "refused") || time.Since(start) > 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		})
	}
}

func TestAResetPassesBothWays(t *testing.T) {
	accepted := make(chan *net.TCPConn, 1)
	to := server(t, func(c *net.TCPConn) { accepted <- c })
	g := boot(t, Config{}, all)
	c, err := g.dial(t, to)
	if err != nil {
		t.Fatal(err)
	}
	host := <-accepted
	host.SetLinger(0)
	host.Close()
	c.SetDeadline(time.Now().Add(testenv.Patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("guest reads: %v", err)
	}
	c.Close()

	if c, err = g.dial(t, to); err != nil {
		t.Fatal(err)
	}
	host = <-accepted
	g.abort()
	host.SetDeadline(time.Now().Add(testenv.Patience))
	if _, err := host.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("host reads: %v", err)
	}
}

// abort resets every connection of the guest.
func (g *guest) abort() {
	for _, e := range g.RegisteredEndpoints() {
		e.Abort()
	}
}

// pressed is several times what the buffers on a path hold.
const pressed = 16 << 20

// pressAgainst writes pressed bytes to a connection whose other end does not read yet, and closes
// it. It returns the number of bytes written so far.
func pressAgainst(c io.WriteCloser) *atomic.Int64 {
	var written atomic.Int64
	go func() {
		defer c.Close()
		b := make([]byte, 64<<10)
		for written.Load() < pressed {
			n, err := c.Write(b)
			written.Add(int64(n))
			if err != nil {
				return
			}
		}
	}()
	return &written
}

// stalls waits until a writer has made no progress for a while, and requires that it has not
// written everything.
func stalls(t testing.TB, name string, written *atomic.Int64) {
	t.Helper()
	for last, still := int64(-1), 0; still < 4; time.Sleep(50 * time.Millisecond) {
		if n := written.Load(); n == last {
			still++
		} else {
			last, still = n, 0
		}
	}
	t.Logf("%s: %d KiB", name, written.Load()>>10)
	if written.Load() == pressed {
		t.Errorf("%s: everything was sent although the receiver reads nothing", name)
	}
}

// A guest that does not read blocks the sender. When it starts to read it gets everything.
func TestBackPressurePasses(t *testing.T) {
	started := make(chan *atomic.Int64, 1)
	to := server(t, func(c *net.TCPConn) { started <- pressAgainst(c) })
	g := boot(t, Config{}, all)
	c, err := g.dial(t, to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	stalls(t, "to the guest", receiveFrom(t, started))
	c.SetDeadline(time.Now().Add(testenv.Patience))
	if n, err := io.Copy(io.Discard, c); n != pressed || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func udpEcho(t testing.TB) netip.AddrPort { return udpEchoAt(t, loopback) }

func udpEchoAt(t testing.TB, at netip.Addr) netip.AddrPort {
	c, err := net.ListenPacket("udp", netip.AddrPortFrom(at, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			c.WriteTo(b[:n], from)
		}
	}()
	return theirs(c.LocalAddr().String())
}

func ask(t testing.TB, c net.Conn, size int) {
	t.Helper()
	q := bytes.Repeat([]byte("?"), size)
	b := make([]byte, 65536)
	c.SetDeadline(time.Now().Add(testenv.Patience))
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(b); err != nil || !bytes.Equal(b[:n], q) {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
}

func TestDatagramsGoOutAndBack(t *testing.T) {
	g := boot(t, Config{}, all)
	c := g.dialUDP(t, udpEcho(t))
	for _, size := range []int{1, 1400, 1472, 1473, 9000} {
		ask(t, c, size)
	}
}

func TestNamesGoToTheHostsResolvers(t *testing.T) {
	to := udpEcho(t)
	l, err := net.Listen("tcp", onLoopback(to).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go acceptAll(l, func(c net.Conn) { echoServer(c.(*net.TCPConn)) })
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := boot(t, Config{resolvConf: file, resolverPort: to.Port()}, all)
	dns := netip.AddrPortFrom(gateway, 53)
	ask(t, g.dialUDP(t, dns), 100)
	c, err := g.dial(t, dns)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask(t, c, 500)
}

// 200 unanswered connection attempts do not keep the guest from connecting elsewhere.
func TestBlackHolesDoNotKeepOthersFromConnecting(t *testing.T) {
	to := server(t, echoServer)
	hole := blackHole(t)
	g := boot(t, Config{}, all)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 200 {
		wg.Go(func() {
			if c, err := gonet.DialContextTCP(ctx, g.Stack, full(hole), ipv4.ProtocolNumber); err == nil {
				c.Close()
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	start := time.Now()
	c, err := g.dial(t, to)
	if err != nil {
		t.Fatal(err)
	}
	ask(t, c, 10)
	c.Close()
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}

// blackHole returns the address of a listener with a full queue, which drops SYNs.
func blackHole(t testing.TB) netip.AddrPort {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	a := netip.AddrPortFrom(outside, uint16(sa.(*syscall.SockaddrInet4).Port))
	for {
		c, err := net.DialTimeout("tcp", onLoopback(a).String(), 200*time.Millisecond)
		if err != nil {
			return a
		}
		t.Cleanup(func() { c.Close() })
	}
}

func TestNothingIsLeftAfterTheGuest(t *testing.T) {
	to, u, hole := server(t, func(c *net.TCPConn) {
		io.Copy(io.Discard, c)
		c.Close()
	}), udpEcho(t), blackHole(t)
	before := virtiotest.TakeFootprint(t)
	g := boot(t, Config{Ports: []Port{{Host: freePort(t), To: 80}}}, all)
	for range 20 {
		c, err := g.dial(t, to)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("x"))
		ask(t, g.dialUDP(t, u), 10)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { gonet.DialContextTCP(ctx, g.Stack, full(hole), ipv4.ProtocolNumber) })
	}
	cancel()
	wg.Wait()
	g.halt()
	before.Holds(t)
}

func TestManyDatagramSourcesLeaveRoomForMore(t *testing.T) {
	to := udpEcho(t)
	g := boot(t, Config{}, all)
	for range maxFlows + 50 {
		c := g.dialUDP(t, to)
		ask(t, c, 5)
		c.Close()
	}
}
