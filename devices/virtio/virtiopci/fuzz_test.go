package virtiopci_test

import (
	"strings"
	"testing"

	"minivmm/devices/guestmem"
)

// An operation of FuzzVirtioPCI: kind, log2 of the width, four bytes of offset and eight of value,
// little endian.
const opSize = 14

const (
	opWriteBAR = iota
	opReadBAR
	opWriteConfig
	opReadConfig
	opCall     // the device signals a queue
	opDoorbell // the guest rings a doorbell
	opOut      // the guest writes to a port
	opPort     // the guest rings a port's doorbell
	numOps
)

func op(what, width byte, off uint32, v uint64) []byte {
	return le.AppendUint64(le.AppendUint32([]byte{what, width}, off), v)
}

// FuzzVirtioPCI interprets the input as accesses to BAR and configuration space. The fake host is
// as strict as KVM, and wrong wiring appears in the log. Activated rings must lie in RAM, and Close
// must release everything.
func FuzzVirtioPCI(f *testing.F) {
	var up []byte
	add := func(p []byte) { up = append(up, p...) }
	add(op(opWriteConfig, 1, 4, 6))
	for _, w := range []struct {
		off   uint32
		width byte
		v     uint64
	}{
		{0x14, 0, 1}, {0x14, 0, 3}, {0x08, 2, 1}, {0x0c, 2, 1}, {0x14, 0, 11},
		{0x10, 1, 0}, {0x16, 1, 0}, {0x18, 1, 16}, {0x1a, 1, 1}, {0x20, 3, 0x1000}, {0x28, 2, 0x2000}, {0x30, 2, 0x3000}, {0x1c, 1, 1},
		{0x16, 1, 1}, {0x18, 1, 16}, {0x1a, 1, 1}, {0x20, 3, 0x5000}, {0x28, 2, 0x6000}, {0x30, 2, 0x7000}, {0x1c, 1, 1},
		{0x14, 0, 15},
		{0x2010, 2, 0xfee00000}, {0x2018, 2, 0x41}, {0x201c, 2, 0}, {0x200c, 2, 0},
	} {
		add(op(opWriteBAR, w.width, w.off, w.v))
	}
	f.Add(up)
	msix := op(opWriteConfig, 2, 0x40, 0x80000000)
	masked := op(opWriteBAR, 2, 0x201c, 1)
	f.Add(append(append(up[:len(up):len(up)], msix...), op(opCall, 0, 0, 0)...))
	f.Add(append(append(append(up[:len(up):len(up)], msix...), masked...), append(op(opCall, 0, 1, 0), op(opReadBAR, 3, 0x2030, 0)...)...))
	f.Add(append(append(up[:len(up):len(up)], msix...), op(opWriteBAR, 0, 0x14, 0)...))
	// Status 0 through the window at 0x90: offset, length, data.
	f.Add(append(up[:len(up):len(up)], append(op(opWriteConfig, 2, 0x98, 0x14), append(op(opWriteConfig, 2, 0x9c, 1), op(opWriteConfig, 0, 0xa0, 0)...)...)...))

	f.Add(append(append(up[:len(up):len(up)], op(opOut, 1, 2, 1)...), append(op(opPort, 0, 2, 0), 0, 0, 0)...))
	// Queue 1's port through the window: BAR, offset, length, data.
	f.Add(append(append(append(up[:len(up):len(up)], op(opWriteConfig, 2, 0xa8, 1)...), append(op(opWriteConfig, 2, 0xac, 2), op(opWriteConfig, 2, 0xb0, 2)...)...),
		append(op(opWriteConfig, 1, 0xb4, 1), 0, 0, 0)...))

	f.Fuzz(func(t *testing.T, data []byte) {
		m := newMachine(t, recorder(), len(data)%opSize > 1)
		seen := 0
		for ; len(data) >= opSize; data = data[opSize:] {
			n := 1 << (data[1] & 3)
			off := uint64(le.Uint32(data[2:]))
			v := le.Uint64(data[6:])
			switch data[0] % numOps {
			case opWriteBAR:
				m.write(off&0x3fff, n, v)
			case opReadBAR:
				m.read(off&0x3fff, n)
			case opWriteConfig:
				m.writeConfig(off&0xff, n, v)
			case opReadConfig:
				m.config(off&0xfff, n)
			case opCall:
				m.tr.Frontend().Call(int(off & 1)).Signal()
				m.host.Interrupts()
			case opDoorbell:
				m.host.Ring(guestmem.GPA(m.base + off&0x3fff))
			case opOut:
				m.out(off&0xf, n, v)
			case opPort:
				m.host.RingPort(uint16(m.port + off&0xf))
			}
			if _, _, connections := m.host.Live(); connections > 3 {
				t.Fatalf("%d connections for 3 sources", connections)
			}
			activations := m.dev.Activations()
			for _, a := range activations[seen:] {
				for _, q := range a.Queues {
					for _, r := range q.Ranges() {
						if _, err := a.Memory.Window(r.GPA, r.SizeBytes); err != nil {
							t.Fatalf("activated: %v", err)
						}
					}
				}
			}
			seen = len(activations)
		}
		for _, line := range m.lines {
			// A guest's own mistakes appear at DRIVER_OK; any other line is a bug of the transport.
			if !strings.Contains(line, ": activate: ") {
				t.Errorf("log: %s", line)
			}
		}
	})
}
