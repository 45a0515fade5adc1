package console

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func testControl(names ...string) *control {
	wake := make(chan struct{}, 1)
	var ports []*port
	for _, name := range names {
		ports = append(ports, newPort(Port{Name: name}, wake))
	}
	return newControl(ports, wake)
}

// spell formats a message as in the table below.
func spell(b []byte) string {
	id, event, value := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])
	word, ok := map[uint16]string{deviceReady: "device", portAdd: "add", portReady: "ready", portOpen: "open", portName: "name"}[event]
	if !ok {
		word = fmt.Sprint(event)
	}
	return strings.TrimSuffix(fmt.Sprintf("%s %d %d %s", word, id, value, b[messageSize:]), " ")
}

// For each sequence of driver messages: the messages that the device then sends, in order, and the
// ports that are open in the guest. Every row has two ports, "a" and "b".
func TestTheProtocol(t *testing.T) {
	driver := func(id uint32, event, value uint16) []byte { return message{id, event, value}.bytes("") }
	const nobody = ^uint32(0)
	up := [][]byte{driver(nobody, deviceReady, 1)}
	both := append(up[:1:1], driver(1, portReady, 1), driver(2, portReady, 1))
	said := []string{"add 1 1", "open 1 1", "name 1 1 a", "add 2 1", "open 2 1", "name 2 1 b"}
	for name, c := range map[string]struct {
		driver [][]byte
		gone   string // the ports whose hosts have hung up
		device []string
		open   string
	}{
		"silence":                     {nil, "", nil, ""},
		"the device is set up":        {up, "", []string{"add 1 1", "add 2 1"}, ""},
		"and again":                   {append(up[:1:1], up...), "", []string{"add 1 1", "add 2 1"}, ""},
		"with any id":                 {[][]byte{driver(1, deviceReady, 1)}, "", []string{"add 1 1", "add 2 1"}, ""},
		"setup failed":                {[][]byte{driver(nobody, deviceReady, 0)}, "", nil, ""},
		"the ports are set up":        {both, "", said, ""},
		"and again and again":         {append(append(both[:3:3], both...), both...), "", said, ""},
		"setup of one port failed":    {append(up[:1:1], driver(1, portReady, 0), driver(2, portReady, 1)), "", []string{"add 1 1", "add 2 1", "open 2 1", "name 2 1 b"}, ""},
		"a port before its device":    {[][]byte{driver(1, portReady, 1), driver(1, portOpen, 1)}, "", nil, ""},
		"ports that do not exist":     {append(up[:1:1], driver(0, portReady, 1), driver(3, portReady, 1), driver(nobody, portReady, 1), driver(1<<31, portOpen, 1)), "", []string{"add 1 1", "add 2 1"}, ""},
		"a program opens":             {append(both[:3:3], driver(2, portOpen, 1)), "", said, "b"},
		"before the port is set up":   {append(up[:1:1], driver(1, portOpen, 1)), "", []string{"add 1 1", "add 2 1"}, "a"},
		"and closes":                  {append(both[:3:3], driver(1, portOpen, 1), driver(2, portOpen, 1), driver(1, portOpen, 0)), "", said, "b"},
		"neither open nor closed":     {append(both[:3:3], driver(1, portOpen, 2), driver(2, portOpen, 1), driver(2, portOpen, 0xff00)), "", said, "b"},
		"no host at a":                {both, "a", []string{"add 1 1", "open 1 0", "name 1 1 a", "add 2 1", "open 2 1", "name 2 1 b"}, ""},
		"no host, and nobody asks":    {up, "ab", []string{"add 1 1", "add 2 1"}, ""},
		"short":                       {[][]byte{nil, {0}, driver(nobody, deviceReady, 1)[:7]}, "", nil, ""},
		"events for devices only":     {append(both[:3:3], driver(1, portAdd, 1), driver(1, 2, 1), driver(1, 4, 1), driver(1, 5, 1), driver(1, portName, 1)), "", said, ""},
		"unknown events":              {append(up[:1:1], driver(1, 8, 1), driver(1, 0xffff, 1)), "", []string{"add 1 1", "add 2 1"}, ""},
		"big-endian, or a value of 2": {[][]byte{{0, 0, 0, 1, 0, 0, 0, 1}, driver(nobody, deviceReady, 2)}, "", []string{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctl := testControl("a", "b")
			for i := range ctl.links {
				if strings.Contains(c.gone, ctl.links[i].port.name) {
					ctl.links[i].port.hangUp()
				}
			}
			for _, b := range c.driver {
				ctl.handle(b)
			}
			var device []string
			for b, ok := ctl.take(); ok; b, ok = ctl.take() {
				device = append(device, spell(b))
			}
			if fmt.Sprint(device) != fmt.Sprint(c.device) {
				t.Errorf("the device sends\n%q, want\n%q", device, c.device)
			}
			open := ""
			for i := range ctl.links {
				if ctl.links[i].open {
					open += ctl.links[i].port.name
				}
			}
			if open != c.open {
				t.Errorf("open: %q, want %q", open, c.open)
			}
		})
	}
}

func TestAHangUpIsReportedOnce(t *testing.T) {
	c := testControl("a")
	c.handle(message{0, deviceReady, 1}.bytes(""))
	c.handle(message{1, portReady, 1}.bytes(""))
	for range 3 {
		c.take()
	}
	<-c.wake
	c.links[0].port.hangUp()
	<-c.wake
	if b, ok := c.take(); !ok || spell(b) != "open 1 0" {
		t.Errorf("the device sends %q, want open 1 0", b)
	}
	if b, ok := c.take(); ok {
		t.Errorf("the device also sends %q", b)
	}
}

// FuzzControl sends random driver messages and takes any number of answers in between: bytes below
// 0xf0 are the length of the message that follows (as far as there is input), bytes from 0xf0 on
// take an answer. The answers are checked against a plain list of the messages sent.
func FuzzControl(f *testing.F) {
	names := []string{"a", "bb", "ccc"}
	f.Fuzz(func(t *testing.T, script []byte) {
		c := testControl(names...)
		ready, added, told := map[uint32]bool{}, map[uint32]bool{}, map[uint32]bool{}
		device := false
		open := [4]bool{}
		take := func() bool {
			b, ok := c.take()
			if !ok {
				return false
			}
			id, event, value := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])
			switch {
			case id < 1 || id > 3 || !device || value != 1:
				t.Fatalf("the device sends %s", spell(b))
			case event == portAdd && !added[id] && len(b) == messageSize:
				added[id] = true
			case event == portOpen && ready[id] && added[id] && len(b) == messageSize:
				told[id] = true
			case event == portName && ready[id] && told[id] && bytes.Equal(b[messageSize:], []byte(names[id-1])):
			default:
				t.Fatalf("the device sends %s", spell(b))
			}
			return true
		}
		for len(script) > 0 {
			op := script[0]
			script = script[1:]
			if op >= 0xf0 {
				take()
				continue
			}
			b := script[:min(int(op), len(script))]
			script = script[len(b):]
			c.handle(b)
			if len(b) < messageSize {
				continue
			}
			id, event, value := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:])
			switch known := device && id >= 1 && id <= 3; {
			case event == deviceReady && value == 1:
				device = true
			case known && event == portReady && value == 1:
				ready[id] = true
			case known && event == portOpen && value <= 1:
				open[id] = value == 1
			}
		}
		n := 0
		for take() {
			n++
		}
		if n > 3*len(names) {
			t.Errorf("%d messages were due", n)
		}
		for i := range c.links {
			id := uint32(i + 1)
			if c.links[i].open != open[id] {
				t.Errorf("port %d: open %v, want %v", id, c.links[i].open, open[id])
			}
			if added[id] != device || told[id] != ready[id] {
				t.Errorf("port %d: added %v, told %v, and the driver has set up the device: %v, the port: %v", id, added[id], told[id], device, ready[id])
			}
		}
	})
}
