package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/vmmtest"
)

// scenarios are the guests' parts of the tests of the real program.
var scenarios = map[string]vmmtest.Scenario{"obey": obeyScenario}

// orders is the source of a guest's orders and the destination of its answers.
type orders interface {
	ReadLine() (string, error)
	Printf(format string, args ...any)
}

// obeyScenario obeys lines on the console. With two arguments, the guest's address with prefix and
// the test's address with port, it takes its orders from a TCP connection to the test, and the
// console is free for other uses.
func obeyScenario(g *vmmtest.Guest) error {
	var o orders = g
	if len(g.Args) == 2 {
		if _, err := g.NetUp(g.Args[0], ""); err != nil {
			return err
		}
		conn, err := net.Dial("tcp", g.Args[1])
		if err != nil {
			return err
		}
		o = &wire{conn}
	}
	o.Printf("next?")
	for {
		line, err := o.ReadLine()
		if err != nil {
			return err
		}
		var verb, way string
		var n int
		if verb, way, _ = strings.Cut(line, " "); way != "" {
			fmt.Sscan(way, &n)
		}
		switch verb {
		case "say":
			o.Printf("said %q", way)
		case "end":
			return endGuest(way)
		case "button":
			pressed, err := g.PowerButton()
			if err != nil {
				return err
			}
			o.Printf("at the button")
			return <-pressed
		case "deaf":
			o.Printf("hears nothing")
			for {
				_ = unix.Pause()
			}
		case "flood":
			for left := n; left > 0; left -= 100 {
				g.Printf("%s", strings.Repeat("x", 98)) // the tty turns the newline into two bytes
			}
			o.Printf("flooded %d", n)
		case "send":
			o.Printf("%s", strings.Repeat("x", n<<10))
		case "fill":
			if err := fillDisk(g, n); err != nil {
				return err
			}
			o.Printf("filled %d", n)
		case "write":
			if err := writeBlocks(g, n); err != nil {
				return err
			}
		case "verify":
			if err := verifyBlocks(g, n); err != nil {
				return err
			}
			o.Printf("verified %d", n)
		default:
			return fmt.Errorf("not an order: %q", line)
		}
	}
}

// wire is a connection that carries orders.
type wire struct{ net.Conn }

func (w *wire) Printf(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

// ReadLine reads byte by byte, so that nothing is lost between two calls.
func (w *wire) ReadLine() (string, error) {
	var line []byte
	for c := []byte{0}; ; line = append(line, c[0]) {
		if _, err := w.Read(c); err != nil {
			return "", err
		}
		if c[0] == '\n' {
			return string(line), nil
		}
	}
}

func endGuest(way string) error {
	switch way {
	case "poweroff":
		return nil
	case "reboot": // with reboot=triple on the command line it is a triple fault
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return fmt.Errorf("unknown way to end %q", way)
}

const (
	killSerial = "kill-disk"
	killBlock  = 4096
	killBlocks = 4096 // that fit into the image
)

// block returns the content of block n of the disk.
func block(n int) []byte {
	return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, uint64(n)|1<<63), killBlock/8)
}

// writeBlocks writes blocks 0 to last, and announces each when it is durable.
func writeBlocks(g *vmmtest.Guest, last int) error {
	f, err := openDisk(g)
	if err != nil {
		return err
	}
	defer f.Close()
	for n := range last + 1 {
		if _, err := f.WriteAt(block(n), int64(n)*killBlock); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		g.Printf("synced %d", n)
	}
	return nil
}

// fillDisk writes mib MiB to the disk, and waits until they are durable.
func fillDisk(g *vmmtest.Guest, mib int) error {
	f, err := openDisk(g)
	if err != nil {
		return err
	}
	defer f.Close()
	for range mib {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	return f.Sync()
}

// verifyBlocks reads blocks 0 to last.
func verifyBlocks(g *vmmtest.Guest, last int) error {
	f, err := openDisk(g)
	if err != nil {
		return err
	}
	defer f.Close()
	return compareBlocks(f, last)
}

func openDisk(g *vmmtest.Guest) (*os.File, error) {
	disk, err := g.Disk(killSerial)
	if err != nil {
		return nil, err
	}
	return os.OpenFile(disk, os.O_RDWR, 0)
}

func compareBlocks(f *os.File, last int) error {
	got := make([]byte, killBlock)
	for n := range last + 1 {
		if _, err := f.ReadAt(got, int64(n)*killBlock); err != nil {
			return err
		}
		if !bytes.Equal(got, block(n)) {
			return fmt.Errorf("block %d was announced as synced, but contains % x", n, got[:16])
		}
	}
	return nil
}
