package bench

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/vmmtest"
)

func TestMain(m *testing.M) {
	vmmtest.Main(m, map[string]vmmtest.Scenario{"traffic": trafficScenario, "user-net": userNetScenario, "disk": diskScenario})
}

// Addresses of the link between host and guest.
const (
	hostCIDR   = "10.78.0.1/24"
	guestCIDR  = "10.78.0.2/24"
	hostPort   = "10.78.0.1:7800"
	diskSerial = "bench-disk-01"
)

// trafficScenario obeys lines from the console: a command's name and its numbers. It answers each
// with the nanoseconds that the command took.
func trafficScenario(g *vmmtest.Guest) error {
	if _, err := g.NetUp(guestCIDR, ""); err != nil {
		return err
	}
	disk, err := g.Disk(diskSerial)
	if err != nil {
		return err
	}
	return obey(g, func(what string, a, b, c int) (time.Duration, error) {
		if run, ok := netCommands[what]; ok {
			return overTCP(run, a, b)
		}
		return diskCommand(disk, what, a, b, c)
	})
}

// obey runs the commands from the console, one after the other.
func obey(g *vmmtest.Guest, run func(what string, a, b, c int) (time.Duration, error)) error {
	for {
		g.Printf("next?")
		line, err := g.ReadLine()
		if err != nil {
			return err
		}
		var what string
		var a, b, c int
		_, _ = fmt.Sscan(line, &what, &a, &b, &c) // commands have one to three numbers
		took, err := run(what, a, b, c)
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		g.Printf("took %d", took)
	}
}

// netCommands are the guest's parts, called for each connection if there are several; hostSide is
// the other part.
var netCommands = map[string]func(net.Conn, int) error{
	"send": func(conn net.Conn, mib int) error {
		if _, err := io.CopyBuffer(onlyWriter{conn}, io.LimitReader(zeros{}, int64(mib)<<20), make([]byte, chunk)); err != nil {
			return err
		}
		_, err := conn.Read(make([]byte, 1)) // the host has received everything
		return err
	},
	"receive": func(conn net.Conn, mib int) error {
		_, err := io.CopyBuffer(onlyWriter{io.Discard}, io.LimitReader(conn, int64(mib)<<20), make([]byte, chunk))
		return err
	},
	"echo": func(conn net.Conn, count int) error {
		p := make([]byte, 1)
		for range count {
			if _, err := conn.Write(p); err != nil {
				return err
			}
			if _, err := io.ReadFull(conn, p); err != nil {
				return err
			}
		}
		return nil
	},
}

const chunk = 128 << 10

// hostSide serves one command's connection.
func hostSide(conn net.Conn, what string, n int) error {
	defer conn.Close()
	var err error
	switch what {
	case "send":
		if _, err = io.CopyBuffer(onlyWriter{io.Discard}, io.LimitReader(conn, int64(n)<<20), make([]byte, chunk)); err == nil {
			_, err = conn.Write([]byte{1})
		}
	case "receive":
		_, err = io.CopyBuffer(onlyWriter{conn}, io.LimitReader(zeros{}, int64(n)<<20), make([]byte, chunk))
	case "echo":
		p := make([]byte, 1)
		for range n {
			if _, err = io.ReadFull(conn, p); err != nil {
				return err
			}
			if _, err = conn.Write(p); err != nil {
				return err
			}
		}
	}
	return err
}

// zeros reads as whatever the buffer contains: the content does not matter here.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// onlyWriter hides ReadFrom, so that CopyBuffer uses its buffer.
type onlyWriter struct{ io.Writer }

// overTCP measures the time of run on the given number of connections at once, each with its share
// of n. Opening the connections is not included.
func overTCP(run func(net.Conn, int) error, n, connections int) (time.Duration, error) {
	conns := make([]net.Conn, max(1, connections))
	for i := range conns {
		conn, err := net.DialTimeout("tcp", hostPort, time.Minute)
		if err != nil {
			return 0, err
		}
		defer conn.Close()
		conns[i] = conn
	}
	errs := make([]error, len(conns))
	start := time.Now()
	if len(conns) == 1 {
		err := run(conns[0], n)
		return time.Since(start), err
	}
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() { errs[i] = run(conn, n/len(conns)) })
	}
	all.Wait()
	return time.Since(start), errors.Join(errs...)
}

// diskCommand measures count requests of size bytes, depth of them at a time, past the guest's page
// cache: "randread", "randwrite", "read", "write".
func diskCommand(path, what string, size, depth, count int) (time.Duration, error) {
	f, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(f)
	random := what == "randread" || what == "randwrite"
	transfer := unix.Pread
	if what == "write" || what == "randwrite" {
		transfer = unix.Pwrite
	}
	end, err := unix.Seek(f, 0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	blocks := int(end) / size
	runtime.GOMAXPROCS(depth + 1) // so that no goroutine waits for another's system call
	var next atomic.Int64
	work := func(seed uint64) error {
		runtime.LockOSThread()
		buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			return err
		}
		defer unix.Munmap(buf)
		rng := mathrand.New(mathrand.NewPCG(1, seed))
		for {
			i := int(next.Add(1)) - 1
			if i >= count {
				return nil
			}
			block := i % blocks
			if random {
				block = rng.IntN(blocks)
			}
			if n, err := transfer(f, buf, int64(block*size)); n != size {
				return &os.PathError{Op: what, Path: path, Err: fmt.Errorf("%d of %d bytes: %w", n, size, err)}
			}
		}
	}
	start := time.Now()
	if depth == 1 {
		err = work(0)
		return time.Since(start), err
	}
	var all sync.WaitGroup
	errs := make([]error, depth)
	for i := range depth {
		all.Go(func() { errs[i] = work(uint64(i)) })
	}
	all.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}

// randomFile creates a file that is completely allocated.
func randomFile(path string, sizeBytes int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	_, _ = rand.Read(block)
	for off := int64(0); off < sizeBytes; off += int64(len(block)) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return f.Close()
}
