package serial

import (
	"bytes"
	"testing"
)

// model is a second implementation of the UART. It follows the data sheet and ignores speed: no
// ring buffer and no stored causes; interrupts are derived from the state before and after.
type model struct {
	reg         [8]byte // last value written; 2 is FCR, 5 the line errors, 6 MSR
	divisor     [2]byte
	fifo        []byte
	thre        bool
	statusReads int
	out         []byte
	edges       int
}

func newModel() *model {
	return &model{reg: [8]byte{6: 0xb0}, divisor: [2]byte{12, 0}}
}

func (m *model) dlab() bool   { return m.reg[3] >= 0x80 }
func (m *model) loop() bool   { return m.reg[4]&0x10 != 0 }
func (m *model) listen() bool { return !m.loop() && (m.reg[1]&1 == 1 || m.statusReads >= 16) }

func (m *model) interrupts() (set [4]bool) {
	set[0] = m.reg[1]&1 != 0 && len(m.fifo) > 0
	set[1] = m.reg[1]&2 != 0 && m.thre
	set[2] = m.reg[1]&4 != 0 && m.reg[5] != 0
	set[3] = m.reg[1]&8 != 0 && m.reg[6]&15 != 0
	return set
}

// atomically runs one bus access and counts at most one edge.
func (m *model) atomically(do func()) {
	before := m.interrupts()
	do()
	for i, on := range m.interrupts() {
		if on && !before[i] {
			m.edges++
			return
		}
	}
}

func (m *model) Read(off uint64, p []byte) {
	m.atomically(func() {
		for i := range p {
			p[i] = m.read(off + uint64(i))
		}
	})
}

func (m *model) read(reg uint64) byte {
	switch reg {
	case 5:
		m.statusReads++
	case 0, 8, 9, 10, 11, 12, 13, 14:
	default:
		m.statusReads = 0
	}
	if m.dlab() && reg < 2 {
		if reg == 1 {
			m.statusReads = 0
		}
		return m.divisor[reg]
	}
	switch reg {
	case 0:
		if len(m.fifo) == 0 {
			return 0
		}
		v := m.fifo[0]
		m.fifo = m.fifo[1:]
		return v
	case 2:
		v := byte(0)
		if m.reg[2]&1 == 1 {
			v = 0xc0
		}
		on := m.interrupts()
		switch {
		case on[2]:
			return v | 6
		case on[0]:
			return v | 4
		case on[1]:
			m.thre = false
			return v | 2
		case on[3]:
			return v
		}
		return v | 1
	case 5:
		v := m.reg[5] | 0x60
		if len(m.fifo) > 0 {
			v |= 1
		}
		m.reg[5] = 0
		return v
	case 6:
		v := m.reg[6]
		m.reg[6] &= 0xf0
		return v
	case 1, 3, 4, 7:
		return m.reg[reg]
	}
	return 0xff
}

func (m *model) Write(off uint64, p []byte) {
	m.atomically(func() {
		for i, v := range p {
			m.write(off+uint64(i), v)
		}
	})
}

func (m *model) write(reg uint64, v byte) {
	if reg > 7 {
		return
	}
	m.statusReads = 0
	if m.dlab() && reg < 2 {
		m.divisor[reg] = v
		return
	}
	switch reg {
	case 0:
		m.thre = true
		switch {
		case !m.loop():
			m.out = append(m.out, v)
		case len(m.fifo) < 16:
			m.fifo = append(m.fifo, v)
		default:
			m.reg[5] = 2
		}
	case 1:
		if m.reg[1]&2 == 0 && v&2 != 0 {
			m.thre = true
		}
		m.reg[1] = v & 15
	case 2:
		m.reg[2] = v
		if v&3 == 3 {
			m.fifo = nil
		}
	case 4:
		m.reg[4] = v & 0x1f
		lines := byte(0xb0)
		if m.loop() {
			// DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD.
			lines = v&1<<5 | v&2<<3 | v&4<<4 | v&8<<4
		}
		delta := (m.reg[6] ^ lines) >> 4
		if lines&0x40 != 0 {
			delta &^= 4
		}
		m.reg[6] = lines | delta | m.reg[6]&15
	case 3, 7:
		m.reg[reg] = v
	}
}

func (m *model) Feed(p []byte) int {
	if !m.listen() {
		return 0
	}
	n := min(len(p), 16-len(m.fifo))
	m.fifo = append(m.fifo, p[:n]...)
	if n > 0 && m.reg[1]&1 != 0 {
		m.edges++
	}
	return n
}

// pair drives a UART and the model identically and fails at the first difference.
type pair struct {
	t     testing.TB
	u     *UART
	out   bytes.Buffer
	edges int
	m     *model
}

func newPair(t testing.TB) *pair {
	p := &pair{t: t, m: newModel()}
	p.u = New(&p.out, func() { p.edges++ })
	return p
}

func (p *pair) check(what string, args ...any) {
	if p.edges != p.m.edges || !bytes.Equal(p.out.Bytes(), p.m.out) {
		p.t.Helper()
		p.t.Fatalf(what+": %d edges, sent % x; want %d, % x", append(args, p.edges, p.out.Bytes(), p.m.edges, p.m.out)...)
	}
}

func (p *pair) read(off uint64, n int) {
	p.t.Helper()
	got, want := make([]byte, n), make([]byte, n)
	p.u.Read(off, got)
	p.m.Read(off, want)
	if !bytes.Equal(got, want) {
		p.t.Fatalf("read %d+%d: got % x, want % x", off, n, got, want)
	}
	p.check("read %d+%d", off, n)
}

func (p *pair) write(off uint64, b ...byte) {
	p.t.Helper()
	p.u.Write(off, b)
	p.m.Write(off, b)
	p.check("write %d % x", off, b)
}

func (p *pair) feed(b ...byte) {
	p.t.Helper()
	if got, want := p.u.Feed(b), p.m.Feed(b); got != want {
		p.t.Fatalf("feed of %d bytes: took %d, want %d", len(b), got, want)
	}
	p.check("feed % x", b)
}
