package usernet

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
)

// Under abuse, memory stays far below maxMemory, a new connection is established within
// this time, and nothing is left when the guest has stopped.
const (
	soon        = 2 * time.Second
	abuseMemory = 28 << 20
)

// abused runs a test with a guest. It checks the memory use during the test and what is left after
// it.
func abused(t *testing.T, cfg Config, abuse func(w *wire)) {
	t.Helper()
	before := virtiotest.TakeFootprint(t)
	w := plug(t, cfg)
	heap := heapBytes()
	var most atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			most.Store(max(most.Load(), heapBytes()-heap))
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	abuse(w)
	close(stop)
	<-stopped
	t.Logf("%d KiB", most.Load()>>10)
	if most.Load() > abuseMemory {
		t.Errorf("%d MiB of memory, limit %d MiB", most.Load()>>20, abuseMemory>>20)
	}
	w.Close()
	before.Holds(t)
}

// heapBytes returns the size of the live heap and the stacks.
func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func synFrame(src, dst netip.AddrPort) []byte {
	return fromTheGuest(ipPacket(header.TCPProtocolNumber, 64, src.Addr(), dst.Addr(), tcpHeader(src.Port(), dst.Port(), header.TCPFlagSyn)))
}

// promptly requires that one of a few tries is fast enough: the machine may be busy.
func promptly(t testing.TB, try func(port uint16)) {
	t.Helper()
	best := testenv.Patience
	for i := range uint16(5) {
		start := time.Now()
		try(777 + i)
		if best = min(best, time.Since(start)); best <= soon {
			return
		}
	}
	t.Errorf("took %v", best)
}

// connects opens a connection despite all other traffic. It retransmits its SYN each second (RFC
// 6298 §2).
func (w *wire) connects(t testing.TB, to netip.AddrPort) {
	t.Helper()
	promptly(t, func(port uint16) {
		syn := synFrame(netip.AddrPortFrom(guestAddr, port), to)
		w.send(t, syn)
		for sent := time.Now(); ; {
			if time.Since(sent) > time.Second {
				w.send(t, syn)
				sent = time.Now()
			}
			f, ok := w.nextWithin(t, time.Second)
			if !ok || header.Ethernet(f).Type() == header.ARPProtocolNumber {
				continue
			}
			_, proto, m := parseIP(t, f[ethBytes:])
			if h := header.TCP(m); proto == uint8(header.TCPProtocolNumber) && h.DestinationPort() == port {
				if h.Flags() != header.TCPFlagSyn|header.TCPFlagAck {
					t.Errorf("answered with %v", h.Flags())
				}
				return
			}
		}
	})
}

// floodSource returns the i-th source of a flood. Every source is an address that a guest may have.
func floodSource(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 2, byte(100 + i%100)}), uint16(1024+i/100))
}

func TestASYNFloodOutwards(t *testing.T) {
	victim, to := server(t, echoServer), server(t, echoServer)
	abused(t, Config{}, func(w *wire) {
		// Each SYN is answered, and the guest never completes the handshake.
		for i := range 2*maxPending + 100 {
			src := netip.AddrPortFrom(guestAddr, uint16(10000+i))
			w.send(t, synFrame(src, victim))
			for {
				_, proto, m := w.ipPacket(t)
				if h := header.TCP(m); proto == uint8(header.TCPProtocolNumber) && h.DestinationPort() == src.Port() && h.Flags() == header.TCPFlagSyn|header.TCPFlagAck {
					break
				}
			}
		}
		w.flood(t, 5000, func(i int) []byte { return synFrame(floodSource(i), victim) })
		w.connects(t, to)
	})
}

func TestASYNFloodIntoAPublishedPort(t *testing.T) {
	to := server(t, echoServer)
	host := freePort(t)
	abused(t, Config{Ports: []Port{{Host: host, To: 80}}}, func(w *wire) {
		for range 600 { // the guest gets the SYNs and does not answer
			if c, err := net.Dial("tcp", host.String()); err == nil { // an error is a reset: the limit is reached
				defer c.Close()
			}
		}
		w.connects(t, to)
	})
}

func TestAFloodOfDatagramSources(t *testing.T) {
	echo, to := udpEcho(t), server(t, echoServer)
	abused(t, Config{}, func(w *wire) {
		w.flood(t, 4000, func(i int) []byte { return guestUDPFrame(floodSource(i), echo, 64, "flood") })
		promptly(t, func(port uint16) {
			w.send(t, guestUDPFrame(netip.AddrPortFrom(guestAddr, port), echo, 64, "me"))
			for {
				if _, proto, m := w.ipPacket(t); proto == uint8(header.UDPProtocolNumber) && header.UDP(m).DestinationPort() == port {
					return
				}
			}
		})
		w.connects(t, to)
	})
}

func Test10000ClientsOfAPublishedPort(t *testing.T) {
	to := server(t, echoServer)
	host := freePort(t)
	abused(t, Config{Ports: []Port{{UDP: true, Host: host, To: 53}}}, func(w *wire) {
		for range 10000 {
			c, err := net.Dial("udp", host.String())
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("flood"))
			c.Close()
		}
		w.connects(t, to)
	})
}

func TestFragmentsThatAreNeverComplete(t *testing.T) {
	to := server(t, echoServer)
	abused(t, Config{}, func(w *wire) {
		payload := make([]byte, 1400)
		four := ipPacket(header.UDPProtocolNumber, 64, guestAddr, outside, payload)
		six := ipPacket(header.IPv6FragmentHeader, 64, guestAddr6, outside6, payload)
		six[header.IPv6MinimumSize] = uint8(header.UDPProtocolNumber)
		six[header.IPv6MinimumSize+3] = 1 // offset 0, more
		w.flood(t, 12000, func(i int) []byte {
			if i%2 == 0 {
				h := header.IPv4(four)
				h.SetID(uint16(i))
				h.SetFlagsFragmentOffset(header.IPv4FlagMoreFragments, 0)
				h.SetChecksum(0)
				h.SetChecksum(^h.CalculateChecksum())
				return fromTheGuest(four)
			}
			binary.BigEndian.PutUint16(six[header.IPv6MinimumSize+6:], uint16(i))
			return fromTheGuest(six)
		})
		w.connects(t, to)
	})
}

// A guest that provides no buffers loses the frames that do not fit. It gets the others when
// it provides buffers.
func TestAGuestThatNeverReads(t *testing.T) {
	to := server(t, echoServer)
	abused(t, Config{}, func(w *wire) {
		lost := len(w.bufs)
		request := icmpFrame(guestAddr, gateway, 64, append([]byte{8, 0, 0, 0, 0, 7, 0, 1}, make([]byte, 1400)...))
		w.flood(t, 20000, func(int) []byte { return request })
		// With twice as many buffers there is room again after the waiting frames.
		for range 2 * lost {
			w.next(t)
		}
		w.send(t, arpFrame([4]byte{10, 0, 2, 2}))
		for header.Ethernet(w.next(t)).Type() != header.ARPProtocolNumber {
		}
		w.connects(t, to)
	})
}

// Peers that read nothing block only the guest's connections to them.
func TestPeersThatNeverRead(t *testing.T) {
	held := make(chan *net.TCPConn, 40)
	deaf, to := server(t, func(c *net.TCPConn) { held <- c }), server(t, echoServer)
	g := boot(t, Config{}, all)
	heap := heapBytes()
	var writers []*gonet.TCPConn
	for range cap(held) {
		c, err := g.dial(t, deaf)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		h := receiveFrom(t, held)
		defer h.Close()
		writers = append(writers, c)
	}
	for _, c := range writers {
		go io.Copy(c, io.LimitReader(zeroes{}, 64<<20))
	}
	promptly(t, func(uint16) {
		c, err := g.dial(t, to)
		if err != nil {
			t.Fatal(err)
		}
		ask(t, c, 1000)
		c.Close()
	})
	if most := heapBytes() - heap; most > 2*maxMemory { // the guest's own stack uses as much
		t.Errorf("%d MiB of memory", most>>20)
	}
}

// A reset by the guest is detected even if its peer neither reads nor writes: the peer's
// own connection is reset.
func TestAResetReachesAPeerThatNeverReads(t *testing.T) {
	held := make(chan *net.TCPConn, 1)
	deaf := server(t, func(c *net.TCPConn) { held <- c })
	g := boot(t, Config{}, all)
	c, err := g.dial(t, deaf)
	if err != nil {
		t.Fatal(err)
	}
	h := receiveFrom(t, held)
	defer h.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second)) // fills all buffers on the path
	for err == nil {
		_, err = c.Write(make([]byte, 1<<20))
	}
	g.abort()
	raw, err := h.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(testenv.Patience)
	for gone := false; !gone; {
		if time.Now().After(deadline) {
			t.Fatal("the peer's connection was not reset")
		}
		raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd)}}
			unix.Poll(p, 100)
			gone = p[0].Revents&unix.POLLERR != 0
		})
	}
}
