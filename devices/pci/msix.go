package pci

import (
	"fmt"
	"sync"

	"minivmm/devices/bus"
)

// Message is the message that a device writes to raise the interrupt of a vector (PCI 3.0 §6.8.2).
type Message struct {
	Address uint64
	Data    uint32
}

// Vectors is implemented by the owner of an MSI-X table. The methods are called one at a time, with
// the table locked. They must not use the MSIX or its Function.
type Vectors interface {
	// Update reports that the vector is now unmasked and has message m, or that it is now masked.
	// For a masked vector m is zero. Update is called only on a change. A new message for a masked
	// vector is reported when the vector is unmasked. Initially all vectors are masked.
	Update(vector int, m Message, unmasked bool)
	// Pending reports whether a masked vector has an interrupt to send when it is unmasked.
	Pending(vector int) bool
}

// Message control, the upper half of the capability's first dword (uapi/linux/pci_regs.h).
const (
	capMSIX     = 0x11    // PCI_CAP_ID_MSIX
	msixMaskAll = 1 << 14 // PCI_MSIX_FLAGS_MASKALL
	msixEnable  = 1 << 15 // PCI_MSIX_FLAGS_ENABLE
	entrySize   = 16      // PCI_MSIX_ENTRY_SIZE
)

// MSIX is an MSI-X table followed by its pending bits (PCI 3.0 §6.8.2). It is a [bus.Handler] of
// SizeBytes bytes; the owner puts this handler into a BAR, at the offset passed to
// [Function.AddMSIX]. Aligned accesses of 4 and 8 bytes are served. The specification leaves other
// accesses undefined: here such a read returns all ones, and such a write changes nothing.
type MSIX struct {
	owner Vectors

	mu      sync.Mutex
	entries []entry
	enabled bool // the guest enabled MSI-X, and the function mask is clear
}

type entry struct {
	words    [4]uint32 // address, upper address, data, vector control: as in the table
	reported reported
}

type reported struct {
	m        Message
	unmasked bool
}

// NewMSIX creates a table of n vectors, all masked. n is 1 to 2048.
func NewMSIX(n int, owner Vectors) *MSIX {
	if n < 1 || n > 2048 {
		panic(fmt.Sprintf("msi-x table of %d vectors: want 1 to 2048", n))
	}
	m := &MSIX{owner: owner, entries: make([]entry, n)}
	for i := range m.entries {
		m.entries[i].words[3] = 1 // PCI_MSIX_ENTRY_CTRL_MASKBIT
	}
	return m
}

// SizeBytes returns the size of the table and the pending bits.
func (m *MSIX) SizeBytes() uint64 {
	return m.tableSize() + uint64(len(m.entries)+63)/64*8
}

func (m *MSIX) tableSize() uint64 { return uint64(len(m.entries)) * entrySize }

// AddMSIX adds the MSI-X capability for m. The owner's handler for the BAR with the given index
// must serve m at the offset off, a multiple of 8. The BAR must already exist and be a memory BAR.
func (f *Function) AddMSIX(m *MSIX, index int, off uint64) {
	b := f.bars[index]
	if f.msix != nil || b.IO || off%8 != 0 || off > b.SizeBytes || m.SizeBytes() > b.SizeBytes-off {
		panic(fmt.Sprintf("msi-x: %#x bytes at %#x of bar %d: it has %#x bytes", m.SizeBytes(), off, index, b.SizeBytes))
	}
	var body, writable [10]byte
	le.PutUint16(body[0:], uint16(len(m.entries)-1))
	le.PutUint32(body[2:], uint32(off)|uint32(index))
	le.PutUint32(body[6:], uint32(off+m.tableSize())|uint32(index))
	le.PutUint16(writable[0:], msixEnable|msixMaskAll)
	f.msix, f.msixReg = m, uint64(f.AddCapability(capMSIX, body[:], writable[:]))
}

// control applies a new value of the message control register.
func (m *MSIX) control(v uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	enabled := v&(msixEnable|msixMaskAll) == msixEnable
	if enabled == m.enabled {
		return
	}
	m.enabled = enabled
	for i := range m.entries {
		m.report(i)
	}
}

// report calls Update for vector i if its state has changed.
func (m *MSIX) report(i int) {
	e := &m.entries[i]
	now := reported{unmasked: m.enabled && e.words[3]&1 == 0}
	if now.unmasked {
		now.m = Message{uint64(e.words[1])<<32 | uint64(e.words[0]), e.words[2]}
	}
	if now != e.reported {
		e.reported = now
		m.owner.Update(i, now.m, now.unmasked)
	}
}

// Read reads table entries and pending bits.
func (m *MSIX) Read(off uint64, p []byte) {
	if !m.served(off, p) {
		bus.Ones(p)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := 0; i < len(p); i += 4 {
		le.PutUint32(p[i:], m.word(off+uint64(i)))
	}
}

// Write changes table entries. The pending bits are read-only.
func (m *MSIX) Write(off uint64, p []byte) {
	if !m.served(off, p) || off >= m.tableSize() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := int(off / entrySize)
	for at := 0; at < len(p); at += 4 {
		word := int(off%entrySize)/4 + at/4
		v := le.Uint32(p[at:])
		switch word {
		case 0:
			v &^= 3 // message addresses are multiples of 4
		case 3:
			v &= 1 // the other bits are reserved
		}
		m.entries[i].words[word] = v
	}
	m.report(i)
}

func (m *MSIX) served(off uint64, p []byte) bool {
	n := uint64(len(p))
	return (n == 4 || n == 8) && off%n == 0 && off < m.SizeBytes() && n <= m.SizeBytes()-off
}

// word returns the dword at the offset off, from the table or from the pending bits after it.
func (m *MSIX) word(off uint64) uint32 {
	if off < m.tableSize() {
		return m.entries[off/entrySize].words[off%entrySize/4]
	}
	var v uint32
	first := int(off-m.tableSize()) * 8
	for i := first; i < min(first+32, len(m.entries)); i++ {
		if !m.entries[i].reported.unmasked && m.owner.Pending(i) {
			v |= 1 << (i - first)
		}
	}
	return v
}
