package vmm_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"minivmm/internal/testbed/vmmtest"
)

// vector is a queue's line in a guest's /proc/interrupts: its number, and the sum of the counts of
// all CPUs.
type vector struct {
	irq   string
	queue string // "net0 1"
	count uint64
}

// vectorsInGuest returns the vectors of the queues of the NIC, the disk controller and the random
// number device. Linux names them virtio0-input.0, virtio0-output.0, virtio1-control,
// virtio1-event, virtio1-request (the same name for all request queues) and virtio2-input.
func vectorsInGuest() (vectors []vector, err error) {
	f, err := os.Open("/proc/interrupts")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	requests := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < 2+runtime.NumCPU() {
			continue
		}
		v := vector{irq: strings.TrimSuffix(words[0], ":")}
		device, name, _ := strings.Cut(words[len(words)-1], "-")
		if !strings.HasPrefix(device, "virtio") {
			continue
		}
		kind, number, numbered := strings.Cut(name, ".")
		k := 0
		fmt.Sscan(number, &k)
		switch kind {
		case "input":
			v.queue = "rng0 0"
			if numbered {
				v.queue = fmt.Sprintf("net0 %d", 2*k)
			}
		case "output":
			v.queue = fmt.Sprintf("net0 %d", 2*k+1)
		case "control":
			v.queue = "scsi0 0"
		case "event":
			v.queue = "scsi0 1"
		case "request":
			v.queue = fmt.Sprintf("scsi0 %d", 2+requests)
			requests++
		default:
			continue
		}
		for _, w := range words[1 : 1+runtime.NumCPU()] {
			var n uint64
			fmt.Sscan(w, &n)
			v.count += n
		}
		vectors = append(vectors, v)
	}
	return vectors, nil
}

// tellInterrupts answers the command "interrupts".
func tellInterrupts(g *vmmtest.Guest) error {
	vectors, err := vectorsInGuest()
	if err != nil {
		return err
	}
	var text []string
	for _, v := range vectors {
		text = append(text, fmt.Sprintf("%s=%d", strings.ReplaceAll(v.queue, " ", "."), v.count))
	}
	g.Printf("interrupts %s end", strings.Join(text, " "))
	return nil
}

// moveInterrupts moves all vectors to one CPU, except those that Linux places on its own, as it
// does for the request queues.
func moveInterrupts(g *vmmtest.Guest, cpu string) error {
	vectors, err := vectorsInGuest()
	if err != nil {
		return err
	}
	moved := 0
	for _, v := range vectors {
		if os.WriteFile("/proc/irq/"+v.irq+"/smp_affinity_list", []byte(cpu), 0) == nil {
			moved++
		}
	}
	g.Printf("moved %d vectors", moved)
	return nil
}

// interrupts returns the counts of host and guest for each queue, read while no interrupt was
// pending. Queues whose interrupts the host does not count are missing in the first.
func (m *trafficMachine) interrupts() (host, guest map[string]uint64) {
	m.t.Helper()
	read := func() map[string]uint64 {
		r, err := m.Report()
		if err != nil {
			m.t.Fatal(err)
		}
		counts := map[string]uint64{}
		for _, q := range r.Queues {
			if q.Interrupts != nil && q.Live {
				counts[fmt.Sprintf("%s %d", q.Device, q.Index)] = *q.Interrupts
			}
		}
		return counts
	}
	for range 20 { // a guest sends packets on its own now and then
		host = read()
		guest = map[string]uint64{}
		words := strings.Fields(m.command("interrupts", `interrupts .* end`))
		for _, w := range words[1 : len(words)-1] {
			queue, count, _ := strings.Cut(strings.ReplaceAll(w, ".", " "), "=")
			var n uint64
			fmt.Sscan(count, &n)
			guest[queue] = n
		}
		if maps.Equal(host, read()) {
			return host, guest
		}
	}
	m.t.Fatalf("the interrupt counts keep changing: %v", host)
	return nil, nil
}

// sameInterrupts compares the guest's counts with the host's, for the queues whose interrupts the
// host counts. The host's count of a transmit queue may be higher: Linux enables the next interrupt
// while it handles one, and an interrupt that is raised twice before the guest handles it is one to
// the guest. least has the minimum count for some of the guest's queues.
func (m *trafficMachine) sameInterrupts(when string, least map[string]uint64) {
	m.t.Helper()
	host, guest := m.interrupts()
	for _, queue := range slices.Sorted(maps.Keys(guest)) {
		h, known := host[queue]
		g := guest[queue]
		m.t.Logf("%s: %s: %d interrupts (known: %v), the guest has %d", when, queue, h, known, g)
		var n int
		_, err := fmt.Sscanf(queue, "net0 %d", &n)
		if transmit := err == nil && n%2 == 1; known && h != g && !(transmit && h > g) {
			m.t.Errorf("%s: %s: the host counted %d interrupts, the guest %d", when, queue, h, g)
		}
		if g < least[queue] {
			m.t.Errorf("%s: %s: the guest handled %d interrupts, want at least %d", when, queue, g, least[queue])
		}
	}
	if len(guest) == 0 || len(host) == 0 {
		m.t.Errorf("%s: %d queues have counts in the host, %d in the guest", when, len(host), len(guest))
	}
}
