package lan

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A station that does not read, here a stopped process, costs a bounded amount of memory and does
// not block the sender. When it continues, it receives frames in order.
func TestAStationThatDoesNotReadBlocksNoOther(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := child(t, dir)
	a, in := join(t, dir, 1)
	a.sees(t, "child", true)
	if err := c.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 60000)
	start := time.Now()
	for i := range 2000 {
		copy(frame, fmt.Sprintf("%6d", i))
		a.Send(MAC{2, 0xcc}, frame)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("sending took %v", d)
	}
	a.mu.Lock()
	p := a.byName["child"]
	a.mu.Unlock()
	p.mu.Lock()
	if p.bytes > maxQueue || len(p.queue) == 0 {
		t.Errorf("%d bytes are queued", p.bytes)
	}
	p.mu.Unlock()
	// Another station can join meanwhile.
	b, inB := join(t, dir, 2)
	a.sees(t, "vm2", true)
	a.Send(b.MAC, []byte("x"))
	inB.wait(t, "vm1:x")
	if err := c.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	before := -1
	for got := range in {
		var n int
		if _, err := fmt.Sscanf(got, "child:echo %d", &n); err != nil || n <= before {
			t.Fatalf("%.30q after %d", got, before)
		}
		if before = n; before > 3 {
			break
		}
	}
	b.sees(t, "child", true)
}

// Several stations that do not read also cost a bounded amount of memory in total, and none after
// they read or leave.
func TestTheQueuesOfAllStationsAreBounded(t *testing.T) {
	const others = 12
	for _, reads := range []bool{true, false} {
		dir := t.TempDir() + "/net"
		cfg, _ := config(t, dir, 1)
		a, err := Join(cfg)
		if err != nil {
			t.Fatal(err)
		}
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		for n := range byte(others) {
			cfg, _ := config(t, dir, 2+n)
			cfg.Receive = func(Card, []byte) { <-held }
			b, err := Join(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.Close() })
			a.sees(t, cfg.Name, true)
		}
		t.Cleanup(release)
		for range 200 {
			a.Send(MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, make([]byte, 60000))
		}
		if n := a.waiting.Load(); n > maxQueues || n < maxQueues-60000 {
			t.Errorf("%d KiB are queued", n>>10)
		}
		if reads {
			release()
			for end := time.Now().Add(2 * time.Minute); a.waiting.Load() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the queues do not drain")
				}
			}
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if n := a.waiting.Load(); n != 0 {
			t.Errorf("%d bytes are still queued after all stations left", n)
		}
	}
}

// Queued frames are sent in order and complete when the other station reads again.
func TestFramesKeepTheirOrder(t *testing.T) {
	dir := t.TempDir() + "/net"
	gate := make(chan struct{})
	cfg, in := config(t, dir, 1)
	receive := cfg.Receive
	cfg.Receive = func(c Card, f []byte) { <-gate; receive(c, f) }
	a, err := Join(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, _ := join(t, dir, 2)
	a.sees(t, "vm2", true)
	var want []string
	for i := range 300 {
		f := bytes.Repeat([]byte{byte(i)}, 1+rand.IntN(3000))
		want = append(want, "vm2:"+string(f))
		b.Send(a.MAC, f)
	}
	close(gate)
	for _, w := range want {
		in.wait(t, w)
	}
}
