package pci

import (
	"encoding/binary"
	"fmt"
	"sync"

	"minivmm/devices/bus"
)

var le = binary.LittleEndian // PCI is little endian

// ConfigSize is the size of one function's configuration space in bytes (PCI Express 4.0 §7.2).
const ConfigSize = 4096

// Identity holds the constant fields of a function's header (PCI 3.0 §6.2.1).
type Identity struct {
	Vendor, Device  uint16
	Revision        uint8
	Class           uint32 // base class << 16 | subclass << 8 | interface; 24 bits
	SubsystemVendor uint16
	Subsystem       uint16
}

// Registers of a type 0 header (uapi/linux/pci_regs.h).
const (
	regVendor          = 0x00 // PCI_VENDOR_ID
	regDevice          = 0x02 // PCI_DEVICE_ID
	regCommand         = 0x04 // PCI_COMMAND
	regStatus          = 0x06 // PCI_STATUS
	regRevision        = 0x08 // PCI_REVISION_ID; the class code is in the next three bytes
	regCacheLine       = 0x0c // PCI_CACHE_LINE_SIZE
	regBAR             = 0x10 // PCI_BASE_ADDRESS_0
	regSubsystemVendor = 0x2c // PCI_SUBSYSTEM_VENDOR_ID
	regSubsystem       = 0x2e // PCI_SUBSYSTEM_ID
	regCapabilities    = 0x34 // PCI_CAPABILITY_LIST
	regInterruptLine   = 0x3c // PCI_INTERRUPT_LINE
	headerSize         = 0x40 // capabilities start here
	legacySize         = 0x100
)

// Command bits (uapi/linux/pci_regs.h).
const (
	CommandIO          = 1 << 0  // PCI_COMMAND_IO: port BARs are decoded; hardwired to 0 without such BARs
	CommandMemory      = 1 << 1  // PCI_COMMAND_MEMORY: memory BARs are decoded
	CommandMaster      = 1 << 2  // PCI_COMMAND_MASTER
	CommandINTxDisable = 1 << 10 // PCI_COMMAND_INTX_DISABLE
)

const statusCapabilities = 1 << 4 // PCI_STATUS_CAP_LIST

// Function is one PCI function.
//
// Its owner configures it (AddBAR, AddCapability, AddMSIX, OnConfig, which panic if their arguments
// are invalid) and then passes it to [Root.Insert]. Afterwards only the guest changes the function.
type Function struct {
	hooks   bus.Bus // handlers attached by OnConfig
	bars    [6]*bar
	msix    *MSIX
	msixReg uint64 // offset of the dword that contains message control

	mu       sync.Mutex
	space    []byte           // ConfigSize bytes, what the guest reads
	writable [legacySize]byte // bits that the guest may change
	nextCap  int              // where AddCapability puts the next capability
	lastLink int              // offset of the pointer to the next capability
}

// NewFunction creates a function with a type 0 header, without BARs or capabilities.
func NewFunction(id Identity) *Function {
	f := &Function{space: make([]byte, ConfigSize), nextCap: headerSize, lastLink: regCapabilities}
	le.PutUint16(f.space[regVendor:], id.Vendor)
	le.PutUint16(f.space[regDevice:], id.Device)
	le.PutUint32(f.space[regRevision:], id.Class<<8|uint32(id.Revision))
	le.PutUint16(f.space[regSubsystemVendor:], id.SubsystemVendor)
	le.PutUint16(f.space[regSubsystem:], id.Subsystem)
	le.PutUint16(f.writable[regCommand:], CommandMemory|CommandMaster|CommandINTxDisable)
	f.writable[regCacheLine] = 0xff
	f.writable[regInterruptLine] = 0xff
	return f
}

// AddCapability appends a capability to the list and returns its offset, a multiple of 4. body is
// the data after the two header bytes (id and next pointer). writable holds the bits of body that
// the guest may change; nil means none. The whole list must fit below offset 0x100.
func (f *Function) AddCapability(id uint8, body, writable []byte) (off int) {
	off, end := f.nextCap, f.nextCap+2+len(body)
	if end > legacySize || len(writable) > len(body) {
		panic(fmt.Sprintf("pci capability %#x: %d bytes at %#x with a mask of %d", id, end-off, off, len(writable)))
	}
	f.space[regStatus] |= statusCapabilities
	f.space[f.lastLink] = uint8(off)
	f.space[off] = id
	copy(f.space[off+2:], body)
	copy(f.writable[off+2:], writable)
	f.lastLink = off + 1
	f.nextCap = (end + 3) &^ 3
	return off
}

// OnConfig makes the handler h serve the sizeBytes bytes of configuration space at off. Both
// numbers must be multiples of 4. The previous contents of the range are hidden. h is called with
// naturally aligned parts of 1, 2 or 4 bytes, and with an offset relative to the start of the
// range. It is called without the function's lock, so h may read other registers of the function.
// An ECAM image ([Options]) does not show what h returns.
func (f *Function) OnConfig(off, sizeBytes int, h bus.Handler) {
	err := f.hooks.Attach(uint64(off), uint64(sizeBytes), h)
	if err != nil || off < headerSize || (off|sizeBytes)%4 != 0 || off+sizeBytes > ConfigSize {
		panic(fmt.Sprintf("pci config hook %#x+%#x: %v", off, sizeBytes, err))
	}
}

// Read fills p from configuration space at off. If a handler passed to OnConfig serves this whole
// range, the bytes come from the handler.
func (f *Function) Read(off uint64, p []byte) {
	if h, at := f.hooks.Find(off, len(p)); h != nil {
		h.Read(at, p)
		return
	}
	f.mu.Lock()
	copy(p, f.space[off:])
	f.mu.Unlock()
}

// write stores p at off in configuration space, but changes only the bits that the guest may
// change. p is one of the pieces that [parts] returns.
func (f *Function) write(off uint64, p []byte) {
	if h, at := f.hooks.Find(off, len(p)); h != nil {
		h.Write(at, p)
		return
	}
	if off >= legacySize {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	reg := off &^ 3
	var data, lanes [4]byte
	copy(data[off&3:], p)
	bus.Ones(lanes[off&3:][:len(p)])
	if reg >= regBAR && reg < regBAR+4*uint64(len(f.bars)) {
		f.writeBAR(int(reg-regBAR)/4, data == [4]byte{0xff, 0xff, 0xff, 0xff})
		return
	}
	mask := le.Uint32(lanes[:]) & le.Uint32(f.writable[reg:])
	f.set(reg, f.get(reg)&^mask|le.Uint32(data[:])&mask)
}

func (f *Function) get(reg uint64) uint32 { return le.Uint32(f.space[reg:]) }

// set stores one dword and applies its effect. A vCPU may read an ECAM image at the same time, but
// on amd64 PutUint32 is one aligned store, so the vCPU never reads a mixture of the old and the new
// value.
func (f *Function) set(reg uint64, v uint32) {
	old := f.get(reg)
	le.PutUint32(f.space[reg:], v)
	if reg == regCommand && v != old {
		for _, b := range f.bars {
			if b != nil {
				b.decode.Store(uint16(v)&b.enable() != 0)
			}
		}
	}
	if f.msix != nil && reg == f.msixReg {
		f.msix.control(uint16(v >> 16))
	}
}
