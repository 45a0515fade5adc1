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
// split into accesses to consecutive ports, lowest first, as on an ISA bus. Accesses beyond the
// last port read ones and write nothing.
type UART struct {
	out   io.Writer
	raise func()
	ready chan struct{}

	mu            sync.Mutex
	held          [SizeBytes]byte // what was written to IER, LCR, MCR and SCR
	divisor       [2]byte
	fifoEnabled   bool
	overrun       bool
	transmitted   bool // the transmitter became empty and IIR has not reported it yet
	modem         byte // MSR: the state in the upper half, the changes in the lower
	causes        byte // enabled pending causes, as IER bits
	fifo          [fifoSize]byte
	first, queued int
	polls         int     // consecutive reads of LSR
	sent          [1]byte // the byte passed to out, stored here to avoid an allocation
}

// New creates a UART in its power-on state. The writer out receives the bytes that the guest sends,
// one in each Write. out must not keep the slice, and its errors are ignored. The function raise
// signals an edge on the interrupt line. Both out and raise are called from vCPUs and from Feed.
// They must not block and must not use the UART.
func New(out io.Writer, raise func()) *UART {
	return &UART{
		out: out, raise: raise, ready: make(chan struct{}, 1),
		divisor: [2]byte{12, 0}, // 9600 baud
		modem:   modemLines(0),
	}
}

// access runs the function do with the UART locked, and then signals the events that do has caused.
func (u *UART) access(do func()) {
	u.mu.Lock()
	listened := u.listening()
	do()
	if !listened && u.listening() {
		u.signal()
	}
	// A new cause requires an edge on the line.
	pending := u.pending()
	edge := pending&^u.causes != 0
	u.causes = pending
	u.mu.Unlock()
	if edge {
		u.raise()
	}
}

// Feed passes input to the guest and returns how many bytes of p it accepted. It accepts as many as
// fit into the FIFO, and none while the guest is not listening. A guest listens if it has enabled
// the receive interrupt or polls. Input before that would be lost: when Linux opens the port, it
// clears the FIFO and discards the bytes that it reads from the port. The caller keeps the rest and
// tries again after a signal on Ready.
func (u *UART) Feed(p []byte) (n int) {
	u.access(func() {
		for u.listening() && n < len(p) && u.receive(p[n]) {
			n++
		}
		if n > 0 {
			// One edge for each Feed, even if the guest missed an earlier one.
			u.causes &^= ierReceive
		}
	})
	return n
}

// Ready receives a signal, at least once, after the guest emptied the FIFO or started to listen. A
// signal may be stale: Feed then accepts nothing.
func (u *UART) Ready() <-chan struct{} { return u.ready }

// Read reads len(p) consecutive registers, starting at register off.
func (u *UART) Read(off uint64, p []byte) {
	u.access(func() {
		for i := range p {
			p[i] = 0xff
			if off+uint64(i) < SizeBytes {
				p[i] = u.read(int(off) + i)
			}
		}
	})
}

// Write writes len(p) consecutive registers, starting at register off.
func (u *UART) Write(off uint64, p []byte) {
	u.access(func() {
		for i, v := range p {
			if off+uint64(i) < SizeBytes {
				u.write(int(off)+i, v)
			}
		}
	})
}

func (u *UART) read(reg int) byte {
	switch reg {
	case regLSR:
		u.polls = min(u.polls+1, pollsEnter)
	case regData: // a driver that polls also reads the received bytes
	default:
		u.polls = 0
	}
	switch {
	case reg <= regIER && u.held[regLCR]&lcrDLAB != 0:
		return u.divisor[reg]
	case reg == regData:
		return u.take()
	case reg == regIIR:
		return u.identify()
	case reg == regLSR:
		v := byte(lsrEmpty)
		if u.queued > 0 {
			v |= lsrReady
		}
		if u.overrun {
			v |= lsrOverrun
		}
		u.overrun = false
		return v
	case reg == regMSR:
		v := u.modem
		u.modem &= 0xf0
		return v
	}
	return u.held[reg]
}

func (u *UART) write(reg int, v byte) {
	u.polls = 0
	switch {
	case reg <= regIER && u.held[regLCR]&lcrDLAB != 0:
		u.divisor[reg] = v
	case reg == regData:
		u.transmit(v)
	case reg == regIER:
		// Enabling the transmit interrupt while the transmitter is empty raises the interrupt: this
		// is how Linux's driver starts to send.
		if v&^u.held[regIER]&ierTransmit != 0 {
			u.transmitted = true
		}
		u.held[regIER] = v & 0x0f
	case reg == regIIR:
		// A change of the enable bit alone keeps the FIFO: Linux makes such a change after it has
		// enabled the receive interrupt.
		u.fifoEnabled = v&fcrEnable != 0
		if u.fifoEnabled && v&fcrClearReceive != 0 {
			u.queued = 0
			u.signal()
		}
	case reg == regMCR:
		u.held[regMCR] = v & 0x1f
		u.setModem(modemLines(v))
	default: // LSR and MSR are read-only: what is stored for them is never read
		u.held[reg] = v
	}
}

func (u *UART) transmit(v byte) {
	u.transmitted = true
	if u.held[regMCR]&mcrLoop == 0 {
		u.sent[0] = v
		_, _ = u.out.Write(u.sent[:])
		return
	}
	if !u.receive(v) {
		u.overrun = true
	}
}

// identify returns the IIR: the pending cause with the highest priority. If the IIR reports the
// transmit interrupt, identify clears that interrupt.
func (u *UART) identify() byte {
	v := byte(iirNone)
	switch c := u.pending(); {
	case c&ierLine != 0:
		v = iirLine
	case c&ierReceive != 0:
		v = iirReceive
	case c&ierTransmit != 0:
		v = iirTransmit
		u.transmitted = false
	case c&ierModem != 0:
		v = iirModem
	}
	if u.fifoEnabled {
		v |= iirFIFO
	}
	return v
}

// pending returns the active and enabled causes, as IER bits.
func (u *UART) pending() byte {
	var c byte
	if u.queued > 0 {
		c |= ierReceive
	}
	if u.transmitted {
		c |= ierTransmit
	}
	if u.overrun {
		c |= ierLine
	}
	if u.modem&0x0f != 0 {
		c |= ierModem
	}
	return c & u.held[regIER]
}

func (u *UART) listening() bool {
	return u.held[regMCR]&mcrLoop == 0 && (u.held[regIER]&ierReceive != 0 || u.polls >= pollsEnter)
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

// modemLines returns the modem's lines, which are the upper half of MSR. They show a modem that is
// connected and ready or, in loopback mode, the UART's own outputs.
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
	old := u.modem & 0xf0
	changed := old ^ lines
	if lines&msrRI != 0 {
		changed &^= msrRI
	}
	u.modem = lines | u.modem&0x0f | changed>>4
}
