package usernet

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// frames returns the frames of a capture file.
func frames(t testing.TB, name string) (all [][]byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil || len(b) < 24 {
		t.Fatal(len(b), err)
	}
	for b = b[24:]; len(b) > 0; {
		n := binary.LittleEndian.Uint32(b[8:])
		all = append(all, b[16:16+n])
		b = b[16+n:]
	}
	return all
}

// The capture contains both directions of a conversation, complete, in order and with correct
// checksums, including those that were left to the device.
func TestACaptureContainsBothDirections(t *testing.T) {
	const total = 1 << 20
	to := server(t, func(c *net.TCPConn) {
		io.Copy(c, io.LimitReader(zeroes{}, total))
		c.CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	})
	name := filepath.Join(t.TempDir(), "x.pcap")
	g := boot(t, Config{Capture: name}, all)
	c, err := g.dial(t, to)
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("hello"))
	c.SetDeadline(time.Now().Add(testenv.Patience))
	if n, err := io.Copy(io.Discard, c); n != total || err != nil {
		t.Fatal(n, err)
	}
	c.Close()
	ask(t, g.dialUDP(t, udpEcho(t)), 100)
	g.halt()
	sent, received, large, datagrams, arps := 0, 0, 0, 0, 0
	for i, f := range frames(t, name) {
		eth := header.Ethernet(f)
		if eth.Type() == header.ARPProtocolNumber {
			arps++
			continue
		}
		ip := header.IPv4(f[ethBytes:])
		if !ip.IsValid(len(ip)) || ip.CalculateChecksum() != 0xffff || int(ip.TotalLength()) != len(ip) {
			t.Fatalf("frame %d: % x", i, f[:34])
		}
		body := ip.Payload()
		if sum := header.PseudoHeaderChecksum(ip.TransportProtocol(), ip.SourceAddress(), ip.DestinationAddress(), uint16(len(body))); checksum.Checksum(body, sum) != 0xffff {
			t.Errorf("frame %d: a checksum is wrong: % x", i, f[:60])
		}
		if ip.TransportProtocol() == header.UDPProtocolNumber {
			datagrams++
			continue
		}
		n := len(header.TCP(body).Payload())
		if addr(ip.SourceAddress()) == guestAddr {
			sent += n
		} else if received += n; n > 1460 {
			large++
		}
	}
	if sent != 5 || received < total || large == 0 || datagrams != 2 || arps < 2 {
		t.Errorf("%d bytes sent, %d received, %d large segments, %d datagrams, %d ARPs", sent, received, large, datagrams, arps)
	}
}
