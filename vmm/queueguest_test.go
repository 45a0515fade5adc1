package vmm_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
	"minivmm/internal/testbed/vmmtest"
)

// queuesScenario executes the commands "report", "streams N", "reads", "verify N", "mac ADDRESS"
// and "rebind DRIVER". It has the arguments of trafficScenario.
func queuesScenario(g *vmmtest.Guest) error {
	nic, err := g.NetUp(g.Args[0], g.Args[3])
	if err != nil {
		return err
	}
	disk, err := g.Disk(g.Args[2])
	if err != nil {
		return err
	}
	g.Printf("disk %s", disk)
	for {
		g.Printf("next?")
		line, err := g.ReadLine()
		if err != nil {
			return err
		}
		words := append(strings.Fields(line), "", "")
		switch words[0] {
		case "quit":
			return nil
		case "report":
			count := func(pattern string) int {
				found, _ := filepath.Glob(pattern)
				return len(found)
			}
			g.Printf("receive=%d transmit=%d requests=%d idle=%d",
				count("/sys/class/net/"+nic+"/queues/rx-*"), count("/sys/class/net/"+nic+"/queues/tx-*"),
				count("/sys/block/"+filepath.Base(disk)+"/mq/*"), idleInputs(2))
		case "streams":
			n, _ := strconv.Atoi(words[1])
			if err = streamsInGuest(g.Args[1], n); err == nil {
				g.Printf("streamed")
			}
		case "reads":
			if err = readsInGuest(disk); err == nil {
				g.Printf("have read")
			}
		case "verify":
			n, _ := strconv.Atoi(words[1])
			if err = verifyInGuest(disk, n); err == nil {
				g.Printf("verified")
			}
		case "mac":
			var link netlink.Link
			var mac net.HardwareAddr
			if mac, err = net.ParseMAC(words[1]); err == nil {
				if link, err = netlink.LinkByName(nic); err == nil {
					err = netlink.LinkSetHardwareAddr(link, mac)
				}
			}
			if err == nil {
				g.Printf("address set")
			}
		case "interrupts":
			err = tellInterrupts(g)
		case "move":
			err = moveInterrupts(g, words[1])
		case "rebind":
			if err = rebind(words[1], 1); err != nil {
				return err
			}
			if words[1] == "virtio_net" {
				nic, err = g.NetUp(g.Args[0], g.Args[3])
			} else {
				disk, err = g.Disk(g.Args[2])
			}
			g.Printf("rebound %v", err)
		default:
			err = fmt.Errorf("unknown command %q", line)
		}
		if err != nil {
			return err
		}
	}
}

// onEachCPU runs f on every CPU at the same time.
func onEachCPU(f func(cpu int) error) error {
	errs := make([]error, runtime.NumCPU())
	var all sync.WaitGroup
	for cpu := range errs {
		all.Go(func() {
			runtime.LockOSThread() // the thread exits with the goroutine
			var set unix.CPUSet
			set.Set(cpu)
			if errs[cpu] = unix.SchedSetaffinity(0, &set); errs[cpu] == nil {
				errs[cpu] = f(cpu)
			}
		})
	}
	all.Wait()
	return firstError(errs...)
}

// streamsInGuest opens n connections on each CPU, one after the other.
func streamsInGuest(host string, n int) error {
	return onEachCPU(func(cpu int) error {
		for i := range n {
			conn, err := net.DialTimeout("tcp", host, testenv.Patience)
			if err != nil {
				return err
			}
			out := bytes.Repeat([]byte{byte(cpu), byte(i)}, streamBytes/2)
			go conn.Write(out)
			in := make([]byte, len(out))
			_, err = io.ReadFull(conn, in)
			conn.Close()
			if err != nil || !bytes.Equal(in, out) {
				return fmt.Errorf("stream %d of CPU %d: the received data differs from the sent data, %v", i, cpu, err)
			}
		}
		return nil
	})
}

// readsPerCPU is the number of reads of readsInGuest on each CPU, one after the other.
const readsPerCPU = 40

// readsInGuest reads from the disk on each CPU.
func readsInGuest(disk string) error {
	return onEachCPU(func(cpu int) error {
		fd, err := unix.Open(disk, unix.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		block, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		defer unix.Munmap(block)
		for i := range readsPerCPU {
			if _, err := unix.Pread(fd, block, int64(i*4096)); err != nil {
				return fmt.Errorf("CPU %d: %w", cpu, err)
			}
		}
		return nil
	})
}

// verifyInGuest writes and reads back n blocks on each CPU, in a separate part of the disk for
// each.
func verifyInGuest(disk string, n int) error {
	const block, places = 16 << 10, 16
	return onEachCPU(func(cpu int) error {
		fd, err := unix.Open(disk, unix.O_RDWR|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		mem, err := unix.Mmap(-1, 0, 2*block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		defer unix.Munmap(mem)
		out, in := mem[:block], mem[block:]
		for i := range n {
			for at := range out {
				out[at] = byte(at>>8 ^ at ^ i ^ cpu<<6)
			}
			off := int64(cpu*places+i%places) * block
			if _, err := unix.Pwrite(fd, out, off); err != nil {
				return fmt.Errorf("CPU %d: %w", cpu, err)
			}
			if _, err := unix.Pread(fd, in, off); err != nil {
				return fmt.Errorf("CPU %d: %w", cpu, err)
			}
			if !bytes.Equal(in, out) {
				return fmt.Errorf("CPU %d: block %d differs from what was written", cpu, i)
			}
		}
		return nil
	})
}

// idleInputs returns how many of the NIC's first n receive queues have raised no interrupt.
func idleInputs(n int) (idle int) {
	f, err := os.Open("/proc/interrupts")
	if err != nil {
		return n
	}
	defer f.Close()
	counts := make([]int, n)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		_, name, _ := strings.Cut(words[len(words)-1], "-")
		for i := range counts {
			if name != fmt.Sprintf("input.%d", i) {
				continue
			}
			for _, w := range words[1 : 1+runtime.NumCPU()] {
				c, _ := strconv.Atoi(w)
				counts[i] += c
			}
		}
	}
	for _, c := range counts {
		if c == 0 {
			idle++
		}
	}
	return idle
}
