package pci

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// owner records the calls of Vectors.
type owner struct {
	calls    []string
	unmasked []bool
	pending  []bool
}

func newOwner(n int) *owner { return &owner{unmasked: make([]bool, n), pending: make([]bool, n)} }

func (o *owner) Update(vector int, m Message, unmasked bool) {
	o.unmasked[vector] = unmasked
	o.calls = append(o.calls, call(vector, m, unmasked))
}

func (o *owner) Pending(vector int) bool {
	if o.unmasked[vector] {
		panic(fmt.Sprintf("Pending called for unmasked vector %d", vector))
	}
	return o.pending[vector]
}

func call(vector int, m Message, unmasked bool) string {
	return fmt.Sprintf("%d %#x %#x %v", vector, m.Address, m.Data, unmasked)
}

// msixModel is table, pending bits and control as bytes. It derives the expected calls from the
// state of all vectors before and after.
type msixModel struct {
	table   []byte
	pending []bool
	control uint16
	calls   []string
}

func newMSIXModel(n int) *msixModel {
	m := &msixModel{table: make([]byte, 16*n), pending: make([]bool, n)}
	for i := range n {
		m.table[16*i+12] = 1
	}
	return m
}

func (m *msixModel) visible(i int) (Message, bool) {
	e := m.table[16*i:]
	if m.control>>14 != 2 || e[12]&1 != 0 {
		return Message{}, false
	}
	return Message{le.Uint64(e), le.Uint32(e[8:])}, true
}

func (m *msixModel) change(from, to int, do func()) {
	type state struct {
		m  Message
		ok bool
	}
	var before []state
	for i := from; i < to; i++ {
		msg, ok := m.visible(i)
		before = append(before, state{msg, ok})
	}
	do()
	for i := from; i < to; i++ {
		if msg, ok := m.visible(i); (state{msg, ok}) != before[i-from] {
			m.calls = append(m.calls, call(i, msg, ok))
		}
	}
}

func (m *msixModel) served(off, n int) bool {
	return (n == 4 || n == 8) && off%n == 0 && off+n <= len(m.table)+(len(m.pending)+63)/64*8
}

func (m *msixModel) write(off int, p []byte) {
	if !m.served(off, len(p)) || off >= len(m.table) {
		return
	}
	i := off / 16
	m.change(i, i+1, func() {
		copy(m.table[off:], p)
		m.table[16*i] &^= 3
		copy(m.table[16*i+12:], []byte{m.table[16*i+12] & 1, 0, 0, 0})
	})
}

func (m *msixModel) read(off, n int) []byte {
	if !m.served(off, n) {
		return bytes.Repeat([]byte{0xff}, n)
	}
	if off < len(m.table) {
		return m.table[off : off+n]
	}
	p := make([]byte, n)
	for bit := range 8 * n {
		if i := (off-len(m.table))*8 + bit; i < len(m.pending) && m.pending[i] {
			if _, unmasked := m.visible(i); !unmasked {
				p[bit/8] |= 1 << (bit % 8)
			}
		}
	}
	return p
}

func TestEveryMSIXAccessAgreesWithTheModel(t *testing.T) {
	for _, n := range []int{1, 2, 31, 32, 33, 63, 64, 65, 2048} {
		for _, control := range []uint16{0, msixEnable, msixMaskAll, msixEnable | msixMaskAll} {
			t.Run(fmt.Sprintf("%d vectors, control %#x", n, control), func(t *testing.T) {
				o := newOwner(n)
				x := NewMSIX(n, o)
				m := newMSIXModel(n)
				x.control(control)
				m.control = control
				for i := range n {
					o.pending[i] = i%3 == 0
					m.pending[i] = i%3 == 0
				}
				size := int(x.SizeBytes())
				if want := 16*n + (n+63)/64*8; size != want {
					t.Fatalf("size %#x, want %#x", size, want)
				}
				for off := range size {
					for _, width := range []int{1, 2, 4, 8} {
						for _, v := range []byte{0, 0xff, 0x12} {
							p := bytes.Repeat([]byte{v}, width)
							x.Write(uint64(off), p)
							m.write(off, p)
							if got, want := o.calls, m.calls; !slices.Equal(got, want) {
								t.Fatalf("write %#x % x: calls %q, want %q", off, p, got, want)
							}
							o.calls, m.calls = nil, nil
							x.Read(uint64(off), p)
							if want := m.read(off, width); !bytes.Equal(p, want) {
								t.Fatalf("read %#x+%d: got % x, want % x", off, width, p, want)
							}
						}
					}
				}
				for off := 0; off < size; off += 8 {
					p := make([]byte, 8)
					if x.Read(uint64(off), p); !bytes.Equal(p, m.read(off, 8)) {
						t.Fatalf("finally, %#x reads % x, want % x", off, p, m.read(off, 8))
					}
				}
			})
		}
	}
}

// TestProgrammingAVectorNotifiesItsOwnerOnce programs a vector as Linux does: mask, write three
// dwords, unmask.
func TestProgrammingAVectorNotifiesItsOwnerOnce(t *testing.T) {
	s := newSample(t)
	s.write(sampleMSIX+2, le.AppendUint16(nil, msixEnable|msixMaskAll))
	for i, v := range []uint32{0xfee0_1000, 0, 0x23, 0} {
		s.msix.Write(uint64(3*16+4*i), le.AppendUint32(nil, v))
	}
	if len(s.owner.calls) != 0 {
		t.Errorf("calls %q while the function is masked", s.owner.calls)
	}
	s.write(sampleMSIX+2, le.AppendUint16(nil, msixEnable))
	s.write(sampleMSIX+3, []byte{0x80})
	s.write(sampleMSIX, []byte{0x11, 0, 0xff, 0xff}) // masks all vectors; the table size is read-only
	s.write(sampleMSIX+2, []byte{0, 0})
	want := []string{call(3, Message{0xfee0_1000, 0x23}, true), call(3, Message{}, false)}
	if !slices.Equal(s.owner.calls, want) {
		t.Errorf("calls %q, want %q", s.owner.calls, want)
	}
}

// FuzzMSIX runs a sequence of table writes, control writes, pending changes and reads against the
// model.
func FuzzMSIX(f *testing.F) {
	f.Add([]byte{70, 0x20, 0, 0x80, 0, 0, 0x0c, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 {
			return
		}
		n := int(program[0])%130 + 1
		o := newOwner(n)
		x := NewMSIX(n, o)
		m := newMSIXModel(n)
		m.pending = o.pending
		size := x.SizeBytes()
		for program = program[1:]; len(program) >= 6; program = program[6:] {
			width := 1 << (program[0] & 3)
			off := uint64(le.Uint16(program[1:])) % size
			value := bytes.Repeat(program[3:6], 3)[:width]
			switch program[0] >> 4 & 3 {
			case 0:
				x.Write(off, value)
				m.write(int(off), value)
			case 1:
				control := le.Uint16(program[2:]) & (msixEnable | msixMaskAll)
				x.control(control)
				m.change(0, n, func() { m.control = control })
			case 2:
				o.pending[int(off)%n] = program[3]&1 != 0
			case 3:
				p := make([]byte, width)
				if x.Read(off, p); !bytes.Equal(p, m.read(int(off), width)) {
					t.Fatalf("read %#x+%d: got % x, want % x", off, width, p, m.read(int(off), width))
				}
			}
			if !slices.Equal(o.calls, m.calls) {
				t.Fatalf("calls %q, want %q", o.calls, m.calls)
			}
		}
	})
}
