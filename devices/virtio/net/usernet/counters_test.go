package usernet

import (
	"io"
	"net"
	"testing"
	"time"

	"minivmm/internal/testbed/testenv"
)

// TestCounters checks the counters while a guest reads, stops reading, and disconnects.
func TestCounters(t *testing.T) {
	silent := make(chan struct{})
	to := server(t, func(c *net.TCPConn) {
		io.Copy(c, io.LimitReader(zeroes{}, 1<<20))
		<-silent
		c.Write([]byte("x"))
		c.Close()
	})
	g := boot(t, Config{}, all)
	until := func(what string, holds func(Counters) bool) {
		t.Helper()
		for end := time.Now().Add(testenv.Patience); !holds(g.b.Counters()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("timeout waiting for %s: %+v", what, g.b.Counters())
			}
		}
	}
	if got := g.b.Counters(); got != (Counters{Segments: got.Segments}) {
		t.Errorf("initially %+v", got)
	}
	c, err := g.dial(t, to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	until("a connection", func(c Counters) bool { return c.Connections == 1 })
	if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
		t.Fatal(err)
	}
	// The handshake, and 1 MiB in segments of up to 64 KiB.
	until("17 segments", func(c Counters) bool { return c.Segments >= 17 })
	release := g.hold(t)
	before := g.b.Counters().SentAgain
	close(silent)
	until("a retransmission", func(c Counters) bool { return c.SentAgain > before })
	release()
	if b, err := io.ReadAll(c); string(b) != "x" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	c.Close()
	until("no connection", func(c Counters) bool { return c.Connections == 0 })
	if err := g.b.Stop(); err != nil {
		t.Fatal(err)
	}
	if got := g.b.Counters(); got != (Counters{}) {
		t.Errorf("without a driver %+v", got)
	}
}
