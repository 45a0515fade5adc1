package vmm_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
	"minivmm/vmm"
)

// floodScenario sends, receives and writes at the same time, without end.
func floodScenario(g *vmmtest.Guest) error {
	if _, err := g.NetUp(g.Args[0], g.Args[3]); err != nil {
		return err
	}
	disk, err := g.Disk(g.Args[2])
	if err != nil {
		return err
	}
	failed := make(chan error)
	for _, way := range []string{"s", "r"} {
		conn, err := net.DialTimeout("tcp", g.Args[1], time.Minute)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, way); err != nil {
			return err
		}
		go func() {
			if way == "s" {
				_, err := io.Copy(conn, zeroes{})
				failed <- fmt.Errorf("send: %w", err)
			}
			_, err := io.Copy(io.Discard, conn)
			failed <- fmt.Errorf("receive: %w", err)
		}()
	}
	go func() {
		for {
			if err := diskTransfer(disk, true, 1, io.Discard); err != nil {
				failed <- fmt.Errorf("write: %w", err)
			}
		}
	}()
	g.Printf("disk %s", disk)
	return <-failed
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// flows serves a flooding guest's connections and counts the bytes.
type flows struct {
	sent, received atomic.Int64
	done           chan struct{}
}

// serve returns, with all connections closed, when the listener is closed: TCP does not notice a
// guest that disappears.
func (f *flows) serve(l net.Listener) {
	defer close(f.done)
	var conns []net.Conn
	var served sync.WaitGroup
	for {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		conns = append(conns, conn)
		served.Go(func() {
			way := make([]byte, 1)
			if _, err := io.ReadFull(conn, way); err != nil {
				return
			}
			if way[0] == 's' {
				io.Copy(counter{&f.sent}, conn)
			} else {
				io.Copy(io.MultiWriter(conn, counter{&f.received}), zeroes{})
			}
		})
	}
	for _, conn := range conns {
		conn.Close()
	}
	served.Wait()
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

// TestCloseInTheMiddleOfTraffic closes machines repeatedly while frames flow both ways and the disk
// is written, and checks that nothing is left behind.
func TestCloseInTheMiddleOfTraffic(t *testing.T) {
	kernel := vmmtest.Kernels(t)[0]
	for _, b := range []backends{inKernel, inProcess} {
		t.Run(b.name, func(t *testing.T) { closeInTraffic(t, serving{kernel, b}) })
	}
}

func closeInTraffic(t *testing.T, s serving) {
	const lives = 4
	one := func(t *testing.T) {
		m := bootServing(t, s, "flood", 1, 1)
		f := &flows{done: make(chan struct{})}
		go f.serve(m.listener)
		const enough = 256 << 10
		for deadline := time.Now().Add(testenv.Patience); f.sent.Load() < enough || f.received.Load() < enough || blocksOf(t, m.image) == 0; {
			if time.Now().After(deadline) {
				t.Fatalf("sent %d, received %d bytes in a minute", f.sent.Load(), f.received.Load())
			}
			time.Sleep(time.Millisecond)
		}
		m.Stop()
		m.Wait(vmm.Stopped)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		m.listener.Close()
		<-f.done
	}
	t.Run("warm-up", one)
	before, memory, outside := virtiotest.TakeFootprint(t), ownResident(t), leftovers(t)
	for life := range lives {
		t.Run(fmt.Sprint(life), one)
	}
	before.Holds(t)
	if now := ownResident(t); now > memory+8<<20 {
		t.Errorf("%d KiB resident, were %d", now>>10, memory>>10)
	}
	if after := leftovers(t); !slices.Equal(outside, after) {
		t.Errorf("before %v\nafter %v", outside, after)
	}
}

// blocksOf returns the number of allocated blocks of a sparse file.
func blocksOf(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks
}
