package usernet

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"minivmm/internal/testbed/testenv"
)

// A guest that receives no frames for a while, with the largest windows,
// loses no data: the backlog has room for the data in flight of its connections,
// which is not so much that a small guest would drop it.
func TestASlowGuestLosesNothingOfAConnection(t *testing.T) {
	const before, total = 512 << 10, 3 << 20
	for _, streams := range []int{1, 4, 32} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) {
			to := server(t, func(c *net.TCPConn) {
				io.Copy(c, io.LimitReader(zeroes{}, total))
				c.Close()
			})
			g := boot(t, Config{}, all)
			window := tcpip.TCPReceiveBufferSizeRangeOption{Min: 8 << 20, Default: 8 << 20, Max: 8 << 20}
			if err := g.SetTransportProtocolOption(tcp.ProtocolNumber, &window); err != nil {
				t.Fatal(err)
			}
			var first, whole sync.WaitGroup
			for range streams {
				c, err := g.dial(t, to)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				c.SetDeadline(time.Now().Add(testenv.Patience))
				first.Add(1)
				whole.Go(func() {
					_, err := io.CopyN(io.Discard, c, before)
					first.Done()
					n, err2 := io.Copy(io.Discard, c)
					if n += before; n != total || err != nil || err2 != nil {
						t.Errorf("%d bytes, %v, %v", n, err, err2)
					}
				})
			}
			first.Wait()
			release := g.hold(t)
			recv := g.b.live.Load().recv
			most := 0
			for still := 0; still < 5; {
				time.Sleep(20 * time.Millisecond)
				recv.mu.Lock()
				n := recv.sending
				recv.mu.Unlock()
				if still++; n > most {
					most, still = n, 0
				}
			}
			release()
			if most > streams*maxInFlight+maxInFlight/8 {
				t.Errorf("%d KiB in flight", most>>10)
			}
			whole.Wait()
			st := g.b.live.Load().stack.Stats().TCP
			t.Logf("%d KiB waited; %d retransmitted, %d timeouts", most>>10, st.Retransmits.Value(), st.Timeouts.Value())
			if n := st.SegmentSendErrors.Value(); n != 0 {
				t.Errorf("%d segments dropped", n)
			}
		})
	}
}

// A connection whose host sends only while others fill the backlog
// waits with them and is not reset.
func TestAnIdleConnectionOutlivesPressure(t *testing.T) {
	const streams = 8
	var sent, got atomic.Int64
	enough := make(chan struct{})
	bulk := server(t, func(c *net.TCPConn) {
		n, _ := io.Copy(c, zeroesUntil(enough))
		sent.Add(n)
		c.Close()
	})
	speak := make(chan struct{})
	said := make(chan struct{})
	idle := server(t, func(c *net.TCPConn) {
		<-speak
		c.Write([]byte("x"))
		close(said)
		c.Close()
	})
	g := boot(t, Config{}, all)
	window := tcpip.TCPReceiveBufferSizeRangeOption{Min: 8 << 20, Default: 8 << 20, Max: 8 << 20}
	if err := g.SetTransportProtocolOption(tcp.ProtocolNumber, &window); err != nil {
		t.Fatal(err)
	}
	dial := func(to netip.AddrPort) net.Conn {
		c, err := g.dial(t, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(testenv.Patience))
		return c
	}
	quiet := dial(idle)
	var begun, whole sync.WaitGroup
	for range streams {
		c := dial(bulk)
		begun.Add(1)
		whole.Go(func() {
			_, err := io.CopyN(io.Discard, c, 1)
			begun.Done()
			n, err2 := io.Copy(io.Discard, c)
			if got.Add(n + 1); err != nil || err2 != nil {
				t.Errorf("%v, %v", err, err2)
			}
		})
	}
	begun.Wait()
	release := g.hold(t)
	recv := g.b.live.Load().recv
	for end := time.Now().Add(testenv.Patience); recv.congested() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the backlog never filled")
		}
	}
	close(speak)
	<-said
	time.Sleep(20 * time.Millisecond) // until the stack gets it
	close(enough)
	release()
	if b, err := io.ReadAll(quiet); string(b) != "x" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	whole.Wait()
	if sent.Load() != got.Load() {
		t.Errorf("%d bytes of %d", got.Load(), sent.Load())
	}
}

// zeroesUntil reads zeroes until the channel is closed.
type zeroesUntil <-chan struct{}

func (z zeroesUntil) Read(p []byte) (int, error) {
	select {
	case <-z:
		return 0, io.EOF
	default:
		return zeroes{}.Read(p)
	}
}
