package vmm_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"minivmm/devices/virtio/virtiotest"
	"minivmm/internal/testbed/vmmtest"
)

// devicesScenario is trafficScenario with two more commands. "rebind DRIVER N" unbinds a driver
// from its device and binds it again N times, each time a reset and an activation. "poke DRIVER HOW
// N" misuses the device by hand.
func devicesScenario(g *vmmtest.Guest) error {
	var disk string
	up := func(driver string) (err error) {
		switch driver {
		case "virtio_net":
			_, err = g.NetUp(g.Args[0], g.Args[3])
		case "virtio_scsi":
			disk, err = g.Disk(g.Args[2])
		}
		return err
	}
	if err := firstError(up("virtio_net"), up("virtio_scsi")); err != nil {
		return err
	}
	g.Printf("disk %s", disk)
	for {
		g.Printf("next?")
		line, err := g.ReadLine()
		if err != nil {
			return err
		}
		words := append(strings.Fields(line), "", "", "")
		var number int
		fmt.Sscan(words[len(words)-4], &number)
		switch words[0] {
		case "quit":
			return nil
		case "interrupts":
			err = tellInterrupts(g)
		case "rebind":
			start := time.Now()
			if err := rebind(words[1], number); err != nil {
				return err
			}
			g.Printf("rebound %s in %v", words[1], time.Since(start))
			err = up(words[1])
		case "poke":
			if err := poke(g, words[1], words[2], number); err != nil {
				return err
			}
			err = up(words[1])
		default:
			err = transferInGuest(g, words[0], number, g.Args[1], disk)
		}
		if err != nil {
			return err
		}
	}
}

// virtioDevice returns the name, such as virtio0, of the device bound to a driver.
func virtioDevice(driver string) (string, error) {
	found, err := filepath.Glob("/sys/bus/virtio/drivers/" + driver + "/virtio*")
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("devices of %s: %v, %v", driver, found, err)
	}
	return filepath.Base(found[0]), nil
}

func rebind(driver string, rounds int) error {
	device, err := virtioDevice(driver)
	if err != nil {
		return err
	}
	for round := range rounds {
		for _, verb := range []string{"unbind", "bind"} {
			if err := os.WriteFile("/sys/bus/virtio/drivers/"+driver+"/"+verb, []byte(device), 0); err != nil {
				return fmt.Errorf("round %d: %s %s: %w", round, verb, device, err)
			}
		}
	}
	return nil
}

// command sends the guest a command and waits for its answer.
func (m *trafficMachine) command(line, answer string) string {
	m.t.Helper()
	m.Expect(`next\?`)
	m.Send(line + "\n")
	return m.Expect(answer)[0]
}

// everyWay moves data in all four ways.
func (m *trafficMachine) everyWay() {
	m.t.Helper()
	for _, what := range []string{"send", "receive", "write", "read"} {
		m.transfer(what, 1)
	}
}

// TestManyLives resets and activates each device many times from the guest: with its driver,
// including interrupts, and a thousand times by hand, which is faster. Then it checks that this
// process has not grown.
func TestManyLives(t *testing.T) {
	for _, s := range servings(t) {
		t.Run(s.String(), func(t *testing.T) {
			m := bootServing(t, s, "devices", 1, 2)
			m.everyWay()
			live := func(driver string, rebinds, lives int) {
				m.command(fmt.Sprintf("rebind %s %d", driver, rebinds), `rebound \S+ in \S+s\b`)
				for ; lives > 0; lives -= 100 { // in steps that are short enough for a slow host
					m.command(fmt.Sprintf("poke %s lives %d", driver, min(lives, 100)), `poked `+driver)
				}
			}
			drivers := []struct {
				name           string
				rebinds, lives int
			}{{"virtio_net", 20, 1000}, {"virtio_rng", 20, 1000}, {"virtio_scsi", 5, 100}}
			for _, d := range drivers {
				live(d.name, 2, 10)
			}
			m.everyWay()
			before, memory := virtiotest.TakeFootprint(t), ownResident(t)
			for _, d := range drivers {
				start := time.Now()
				live(d.name, d.rebinds, d.lives)
				t.Logf("%s: %d lives in %v", d.name, d.rebinds+d.lives, time.Since(start))
			}
			m.everyWay()
			before.Holds(t)
			if s.backends.name == inProcess.name {
				m.sameInterrupts("in the last life", map[string]uint64{"net0 0": 1, "scsi0 2": 1})
			}
			if now := ownResident(t); now > memory+4<<20 {
				t.Errorf("%d KiB resident besides the guest's memory, were %d", now>>10, memory>>10)
			}
			m.quit()
		})
	}
}

// ownResident returns the resident memory of this process in bytes, without the guest's RAM, which
// is a larger mapping than any of Go's.
func ownResident(t *testing.T) int {
	t.Helper()
	const guests = 96 << 10 // KiB
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var size, resident, sum int
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if n, _ := fmt.Sscanf(lines.Text(), "Size: %d kB", &size); n == 1 {
			continue
		}
		if n, _ := fmt.Sscanf(lines.Text(), "Rss: %d kB", &resident); n == 1 && size < guests {
			sum += resident << 10
		}
	}
	return sum
}

// logbook records what the VM logs.
type logbook struct {
	testing.TB
	mu    sync.Mutex
	lines []string
}

func (l *logbook) Logf(format string, args ...any) {
	l.TB.Helper()
	l.TB.Logf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// take returns the recorded lines that contain a word, and deletes all lines.
func (l *logbook) take(word string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := slices.DeleteFunc(l.lines, func(line string) bool { return !strings.Contains(line, word) })
	l.lines = nil
	return lines
}

// TestAGuestThatBreaksItsDevice misuses devices by hand. The device asks for a reset, the log
// reports it once, the other devices continue, and after a reset the device works as before.
func TestAGuestThatBreaksItsDevice(t *testing.T) {
	for _, s := range servings(t) {
		t.Run(s.String(), func(t *testing.T) {
			log := &logbook{TB: t}
			m := bootServing(log, s, "devices", 1, 2)
			m.everyWay()
			before := virtiotest.TakeFootprint(t)
			for _, d := range []struct {
				driver, device string
				queue          int
				traffic        []string // its own, then another device's
			}{
				{"virtio_net", "net0", 1, []string{"send", "receive", "read"}},
				{"virtio_scsi", "scsi0", 2, []string{"write", "read", "send"}},
				{"virtio_rng", "rng0", 0, []string{"send"}},
			} {
				for how, want := range map[string]int{"ring-outside": 1, "bad-descriptors": 3, "frozen": 0} {
					log.take("")
					m.command(fmt.Sprintf("poke %s %s %d", d.driver, how, d.queue), "poked "+d.driver)
					for _, what := range d.traffic {
						m.transfer(what, 1)
					}
					lines := log.take("needs reset")
					if len(lines) != want || want > 0 && !strings.HasPrefix(lines[0], d.device+": ") {
						t.Errorf("%s %s: the log has %q, want %d lines", d.driver, how, lines, want)
					}
				}
			}
			before.Holds(t)
			m.quit()
		})
	}
}
