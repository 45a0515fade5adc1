package serial

import (
	"io"
	"sync"
)

// SizeBytes is the number of I/O ports. COM1 is at 0x3f8.
const SizeBytes = 8

// Registers (uapi/linux/serial_reg.h). Registers 0 and 1 are the divisor while LCR's DLAB is set.
const (
	regData = 0 // UART_RX, UART_TX, UART_DLL
	regIER  = 1 // UART_IER, UART_DLM
	regIIR  = 2 // UART_IIR when read, UART_FCR when written
	regLCR  = 3 // UART_LCR
	regMCR  = 4 // UART_MCR
	regLSR  = 5 // UART_LSR
	regMSR  = 6 // UART_MSR
	regSCR  = 7 // UART_SCR
)

const (
	ierReceive  = 0x01 // UART_IER_RDI
	ierTransmit = 0x02 // UART_IER_THRI
	ierLine     = 0x04 // UART_IER_RLSI
	ierModem    = 0x08 // UART_IER_MSI

	iirNone     = 0x01 // UART_IIR_NO_INT
	iirModem    = 0x00 // UART_IIR_MSI
	iirTransmit = 0x02 // UART_IIR_THRI
	iirReceive  = 0x04 // UART_IIR_RDI
	iirLine     = 0x06 // UART_IIR_RLSI
	iirFIFO     = 0xc0 // UART_IIR_FIFO_ENABLED_16550A

	fcrEnable       = 0x01 // UART_FCR_ENABLE_FIFO
	fcrClearReceive = 0x02 // UART_FCR_CLEAR_RCVR

	lcrDLAB = 0x80 // UART_LCR_DLAB

	mcrDTR  = 0x01 // UART_MCR_DTR
	mcrRTS  = 0x02 // UART_MCR_RTS
	mcrOut1 = 0x04 // UART_MCR_OUT1
	mcrOut2 = 0x08 // UART_MCR_OUT2
	mcrLoop = 0x10 // UART_MCR_LOOP

	lsrReady   = 0x01 // UART_LSR_DR
	lsrOverrun = 0x02 // UART_LSR_OE
	lsrEmpty   = 0x60 // UART_LSR_THRE | UART_LSR_TEMT

	msrCTS = 0x10 // UART_MSR_CTS
	msrDSR = 0x20 // UART_MSR_DSR
	msrRI  = 0x40 // UART_MSR_RI
	msrDCD = 0x80 // UART_MSR_DCD
)

const (
	fifoSize   = 16
	pollsEnter = 16 // consecutive reads of LSR after which a guest counts as polling
)

// UART is a 16550A. It is a [minivmm/devices/bus.Handler] of SizeBytes ports. A wider access is
// split into accesses to consecutive ports, lowest first, as on an ISA bus. Parts beyond the last
// port read as ones and write nothing.
type UART struct {
	out   io.Writer
	raise func()
	ready chan struct{}

	mu            sync.Mutex
	registers     registers
	fifo          [fifoSize]byte
	first, queued int
	polls         int     // consecutive reads of LSR
	sent          [1]byte // the byte passed to the writer, stored here to avoid an allocation
}

// registers are the registers that a reset restores.
type registers struct {
	ier, lcr, mcr, scr byte
	divisor            [2]byte
	fifoEnabled        bool
	overrun            bool
	transmitted        bool // the transmitter became empty and IIR has not reported it yet
	modem              byte // MSR: the state in the upper half, the changes in the lower
	causes             byte // enabled pending causes, as IER bits
}

// New creates a UART in its power-on state. out receives what the guest sends, one byte per call;
// it must not keep the slice, and its errors are ignored. raise signals an edge on the interrupt
// line. Both are called from vCPUs and from Feed. They must not block and must not use the UART.
func New(out io.Writer, raise func()) *UART {
	u := &UART{out: out, raise: raise, ready: make(chan struct{}, 1)}
	u.registers = powerOn()
	return u
}

func powerOn() registers {
	return registers{divisor: [2]byte{12, 0}, modem: modemLines(0)} // 9600 baud
}

// Feed passes input to the guest and returns how many bytes of p it accepted: as many as fit into
// the FIFO, and none while the guest is not listening. A guest listens if it has enabled the
// receive interrupt or polls: when Linux opens the port, it clears the FIFO and discards what it
// reads from it, so earlier input would be lost. The caller keeps the rest and tries again after a
// signal on Ready.
func (u *UART) Feed(p []byte) int {
	u.mu.Lock()
	n := 0
	if u.listening() {
		for n < len(p) && u.receive(p[n]) {
			n++
		}
	}
	if n > 0 {
		// One edge for each Feed, even if the guest missed an earlier one.
		u.registers.causes &^= ierReceive
	}
	edge := u.update()
	u.mu.Unlock()
	if edge {
		u.raise()
	}
	return n
}

// Ready receives a signal, at least once, after the guest emptied the FIFO or started to listen. A
// signal may be stale: Feed then accepts nothing.
func (u *UART) Ready() <-chan struct{} { return u.ready }

// Read reads len(p) registers from off.
func (u *UART) Read(off uint64, p []byte) {
	u.mu.Lock()
	listened := u.listening()
	for i := range p {
		p[i] = 0xff
		if off+uint64(i) < SizeBytes {
			p[i] = u.read(int(off) + i)
		}
	}
	edge := u.finish(listened)
	u.mu.Unlock()
	if edge {
		u.raise()
	}
}

// Write writes len(p) registers from off.
func (u *UART) Write(off uint64, p []byte) {
	u.mu.Lock()
	listened := u.listening()
	for i, v := range p {
		if off+uint64(i) < SizeBytes {
			u.write(int(off)+i, v)
		}
	}
	edge := u.finish(listened)
	u.mu.Unlock()
	if edge {
		u.raise()
	}
}

func (u *UART) read(reg int) byte {
	r := &u.registers
	dlab := r.lcr&lcrDLAB != 0
	if reg == regLSR {
		u.polls = min(u.polls+1, pollsEnter)
	}
	if reg != regLSR && reg != regData {
		u.polls = 0
	}
	switch {
	case dlab && reg <= regIER:
		return r.divisor[reg]
	case reg == regData:
		return u.take()
	case reg == regIER:
		return r.ier
	case reg == regIIR:
		return u.identify()
	case reg == regLCR:
		return r.lcr
	case reg == regMCR:
		return r.mcr
	case reg == regLSR:
		v := byte(lsrEmpty)
		if u.queued > 0 {
			v |= lsrReady
		}
		if r.overrun {
			v |= lsrOverrun
		}
		r.overrun = false
		return v
	case reg == regMSR:
		v := r.modem
		r.modem &= 0xf0
		return v
	}
	return r.scr
}

func (u *UART) write(reg int, v byte) {
	r := &u.registers
	u.polls = 0
	switch {
	case r.lcr&lcrDLAB != 0 && reg <= regIER:
		r.divisor[reg] = v
	case reg == regData:
		u.transmit(v)
	case reg == regIER:
		// Enabling the transmit interrupt while the transmitter is empty raises the interrupt: this
		// is how Linux's driver starts to send.
		if v&^r.ier&ierTransmit != 0 {
			r.transmitted = true
		}
		r.ier = v & 0x0f
	case reg == regIIR:
		// A change of the enable bit alone keeps the FIFO: Linux makes such a change after it has
		// enabled the receive interrupt.
		r.fifoEnabled = v&fcrEnable != 0
		if r.fifoEnabled && v&fcrClearReceive != 0 {
			u.clear()
		}
	case reg == regLCR:
		r.lcr = v
	case reg == regMCR:
		r.mcr = v & 0x1f
		u.setModem(modemLines(r.mcr))
	case reg == regSCR:
		r.scr = v
	}
}

func (u *UART) transmit(v byte) {
	u.registers.transmitted = true
	if u.registers.mcr&mcrLoop == 0 {
		u.sent[0] = v
		_, _ = u.out.Write(u.sent[:])
		return
	}
	if !u.receive(v) {
		u.registers.overrun = true
	}
}

// identify returns the IIR: the pending cause with the highest priority. If it reports the transmit
// interrupt, that interrupt is cleared.
func (u *UART) identify() byte {
	r := &u.registers
	v := byte(iirNone)
	switch c := u.pending(); {
	case c&ierLine != 0:
		v = iirLine
	case c&ierReceive != 0:
		v = iirReceive
	case c&ierTransmit != 0:
		v = iirTransmit
		r.transmitted = false
	case c&ierModem != 0:
		v = iirModem
	}
	if r.fifoEnabled {
		v |= iirFIFO
	}
	return v
}

// pending returns the active and enabled causes, as IER bits.
func (u *UART) pending() byte {
	r := &u.registers
	var c byte
	if u.queued > 0 {
		c |= ierReceive
	}
	if r.transmitted {
		c |= ierTransmit
	}
	if r.overrun {
		c |= ierLine
	}
	if r.modem&0x0f != 0 {
		c |= ierModem
	}
	return c & r.ier
}

// update reports whether there is a new cause, which requires an edge on the line.
func (u *UART) update() bool {
	c := u.pending()
	edge := c&^u.registers.causes != 0
	u.registers.causes = c
	return edge
}

// finish completes an access by the guest.
func (u *UART) finish(listened bool) (edge bool) {
	if !listened && u.listening() {
		u.signal()
	}
	return u.update()
}

func (u *UART) listening() bool {
	r := &u.registers
	return r.mcr&mcrLoop == 0 && (r.ier&ierReceive != 0 || u.polls >= pollsEnter)
}

func (u *UART) signal() {
	select {
	case u.ready <- struct{}{}:
	default:
	}
}

func (u *UART) receive(v byte) bool {
	if u.queued == fifoSize {
		return false
	}
	u.fifo[(u.first+u.queued)%fifoSize] = v
	u.queued++
	return true
}

func (u *UART) take() byte {
	if u.queued == 0 {
		return 0
	}
	v := u.fifo[u.first]
	u.first = (u.first + 1) % fifoSize
	if u.queued--; u.queued == 0 {
		u.signal()
	}
	return v
}

func (u *UART) clear() {
	u.queued = 0
	u.signal()
}

// modemLines returns the modem's lines, the upper half of MSR: those of a modem that is connected
// and ready, or in loopback the UART's own outputs.
func modemLines(mcr byte) byte {
	if mcr&mcrLoop == 0 {
		return msrDCD | msrDSR | msrCTS
	}
	var v byte
	for _, wire := range [...]struct{ out, in byte }{
		{mcrDTR, msrDSR}, {mcrRTS, msrCTS}, {mcrOut1, msrRI}, {mcrOut2, msrDCD},
	} {
		if mcr&wire.out != 0 {
			v |= wire.in
		}
	}
	return v
}

// setModem sets the lines and records which have changed. For the ring indicator only the trailing
// edge counts (UART_MSR_TERI).
func (u *UART) setModem(lines byte) {
	old := u.registers.modem & 0xf0
	changed := old ^ lines
	if lines&msrRI != 0 {
		changed &^= msrRI
	}
	u.registers.modem = lines | u.registers.modem&0x0f | changed>>4
}
