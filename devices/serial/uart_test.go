package serial

import (
	"bytes"
	"io"
	"sync"
	"testing"
)

// TestEveryAccessAgreesWithTheModel makes every access of every width and value, in states in which
// the registers have different meanings, and then checks all registers.
func TestEveryAccessAgreesWithTheModel(t *testing.T) {
	states := map[string]func(*pair){
		"power on":   func(*pair) {},
		"divisor":    func(p *pair) { p.write(3, 0x83) },
		"loopback":   func(p *pair) { p.write(1, 0x0f); p.write(4, 0x1a); p.write(0, 0x77) },
		"fifo":       func(p *pair) { p.write(2, 7) },
		"input":      func(p *pair) { p.write(2, 1); p.write(1, 1); p.feed([]byte("some input, more than fits")...) },
		"interrupts": func(p *pair) { p.write(1, 0x0f); p.feed(1, 2); p.read(2, 1) },
		"overrun":    func(p *pair) { p.write(4, 0x10); p.write(1, 0x0d); fill(p) },
	}
	for name, prepare := range states {
		t.Run(name, func(t *testing.T) {
			for off := range uint64(SizeBytes) {
				for _, n := range []int{1, 2, 3, 4, 8} {
					for v := range 257 {
						p := newPair(t)
						prepare(p)
						if v < 256 {
							p.write(off, bytes.Repeat([]byte{byte(v)}, n)...)
						} else {
							p.read(off, n)
						}
						p.feed(0xaa)
						for reg := range uint64(SizeBytes) {
							p.read(reg, 1)
						}
						p.read(2, 1)
						p.read(0, 1)
					}
				}
			}
		})
	}
}

func fill(p *pair) {
	for i := range byte(17) {
		p.write(0, i)
	}
}

func TestDriversFindA16550A(t *testing.T) {
	u := New(io.Discard, func() {})
	in := func(reg uint64) byte { var p [1]byte; u.Read(reg, p[:]); return p[0] }
	out := func(reg uint64, v byte) { u.Write(reg, []byte{v}) }
	want := func(what string, got, want byte) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %#x, want %#x", what, got, want)
		}
	}
	// Linux 8250_port.c, autoconfig: are exactly the expected bits of IER writable?
	out(regIER, 0)
	want("IER cleared", in(regIER)&0x0f, 0)
	out(regIER, 0x0f)
	want("IER set", in(regIER), 0x0f)
	out(regIER, 0)
	out(regIER, 0x40)
	want("IER has no UUE bit as on an XScale", in(regIER), 0)
	// The modem lines in loopback.
	out(regMCR, mcrLoop|mcrOut2|mcrRTS)
	want("MSR in loopback", in(regMSR)&0xf0, msrDCD|msrCTS)
	out(regMCR, 0)
	// The FIFO bits of IIR, for each way to request them.
	out(regLCR, 0xbf)
	out(regIIR, 0)
	out(regLCR, 0)
	out(regIIR, fcrEnable)
	want("IIR with FIFO", in(regIIR)&0xf0, 0xc0)
	out(regLCR, 0x80)
	if in(2) == 0 {
		t.Error("register 2 reads as an EFR")
	}
	out(2, 0x21)
	want("IIR after asking for 64 bytes", in(2)&0xf0, 0xc0)
	out(2, 1)
	out(regLCR, 0)
	out(regIIR, 0)
	want("IIR without FIFO", in(regIIR), iirNone)
	// size_fifo: loop 256 bytes back and count how many were kept.
	out(regIIR, 7)
	out(regMCR, mcrLoop)
	for i := range 256 {
		out(regData, byte(i))
	}
	n := byte(0)
	for ; in(regLSR)&lsrReady != 0; n++ {
		want("looped byte", in(regData), n)
	}
	want("FIFO size", n, 16)
	out(regMCR, 0)
	out(regIIR, 0)
	// Startup: the port exists, THRE returns, and enabling its interrupt takes effect.
	in(regLSR)
	in(regData)
	if in(regLSR) == 0xff {
		t.Error("LSR reads as if the port did not exist")
	}
	in(regIIR)
	for range 2 {
		out(regIER, ierTransmit)
		want("IIR with THRI", in(regIIR), iirTransmit)
		out(regIER, 0)
	}
	out(regIER, ierTransmit)
	want("LSR with THRI", in(regLSR)&lsrEmpty, lsrEmpty)
	want("IIR with THRI", in(regIIR), iirTransmit)
	want("IIR read again", in(regIIR), iirNone)
	// Scratch and divisor.
	out(regSCR, 0xa5)
	want("SCR", in(regSCR), 0xa5)
	out(regLCR, 0x83)
	out(0, 1)
	out(1, 2)
	want("DLL", in(0), 1)
	want("DLM", in(1), 2)
	out(regLCR, 0x03)
	want("LCR", in(regLCR), 3)
}

// TestTransmitByInterrupt sends a full buffer as Linux's driver does: one interrupt starts it, and
// each pass of its loop sends 16 bytes.
func TestTransmitByInterrupt(t *testing.T) {
	var out bytes.Buffer
	edges := 0
	u := New(&out, func() { edges++ })
	in := func(reg uint64) byte { var p [1]byte; u.Read(reg, p[:]); return p[0] }
	text := bytes.Repeat([]byte("console "), 64)
	left := text
	u.Write(regIIR, []byte{fcrEnable})
	u.Write(regIER, []byte{ierReceive | ierTransmit})
	if edges != 1 {
		t.Fatalf("%d edges at the start, want 1", edges)
	}
	for turns := 0; in(regIIR)&iirNone == 0; turns++ {
		for range min(16, len(left)) {
			u.Write(regData, left[:1])
			left = left[1:]
		}
		if len(left) == 0 {
			u.Write(regIER, []byte{ierReceive})
		}
		if turns > len(text)/16 {
			t.Fatal("the interrupt is never cleared")
		}
	}
	if !bytes.Equal(out.Bytes(), text) {
		t.Errorf("sent %d bytes, want %d", out.Len(), len(text))
	}
	if want := 1 + len(text)/16; edges != want {
		t.Errorf("%d edges, want %d: one at the start and one for each pass", edges, want)
	}
}

func TestInputWaitsUntilTheGuestListens(t *testing.T) {
	edges := 0
	u := New(io.Discard, func() { edges++ })
	in := func(reg uint64) byte { var p [1]byte; u.Read(reg, p[:]); return p[0] }
	if n := u.Feed([]byte("early")); n != 0 {
		t.Fatalf("a closed port accepted %d bytes", n)
	}
	// Linux opens the port: it clears the FIFOs, discards input, then enables the interrupt.
	u.Write(regIIR, []byte{7})
	u.Write(regIIR, []byte{0})
	for _, reg := range []uint64{regLSR, regData, regIIR, regMSR} {
		in(reg)
	}
	for len(u.Ready()) > 0 {
		<-u.Ready()
	}
	u.Write(regIER, []byte{ierReceive | ierLine})
	if len(u.Ready()) != 1 {
		t.Error("no signal on Ready when the guest started to listen")
	}
	if n := u.Feed([]byte("early")); n != 5 || edges != 1 {
		t.Fatalf("an open port accepted %d bytes with %d edges, want 5 and 1", n, edges)
	}
	u.Write(regIIR, []byte{fcrEnable})
	var got []byte
	for in(regLSR)&lsrReady != 0 {
		got = append(got, in(regData))
	}
	if string(got) != "early" {
		t.Errorf("the guest read %q", got)
	}
}

func TestAPollingGuestGetsInput(t *testing.T) {
	edges := 0
	u := New(io.Discard, func() { edges++ })
	in := func(reg uint64) byte { var p [1]byte; u.Read(reg, p[:]); return p[0] }
	rest, got := []byte("forty bytes typed at a prompt, no driver"), []byte{}
	for range 1000 {
		rest = rest[u.Feed(rest):]
		if in(regLSR)&lsrReady != 0 {
			got = append(got, in(regData))
			u.Write(regData, got[len(got)-1:]) // echo
		}
	}
	if string(got) != "forty bytes typed at a prompt, no driver" || edges != 0 {
		t.Errorf("the guest read %q with %d edges", got, edges)
	}
}

// TestFloodedInputArrivesInOrderAndAllocatesNothing makes a feeder wait for Ready while a guest
// reads slowly: no byte is lost and no wake-up is missed.
func TestFloodedInputArrivesInOrderAndAllocatesNothing(t *testing.T) {
	const total = 1 << 16
	irq := make(chan struct{}, 1)
	u := New(io.Discard, func() {
		select {
		case irq <- struct{}{}:
		default:
		}
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		p := make([]byte, total)
		for i := range p {
			p[i] = byte(i * 7)
		}
		for len(p) > 0 {
			n := u.Feed(p)
			if p = p[n:]; n == 0 {
				<-u.Ready()
			}
		}
	})
	var p [1]byte
	u.Write(regIER, []byte{ierReceive})
	for i := 0; i < total; {
		<-irq
		for {
			if u.Read(regLSR, p[:]); p[0]&lsrReady == 0 {
				break
			}
			if u.Read(regData, p[:]); p[0] != byte(i*7) {
				t.Fatalf("byte %d is %#x, want %#x", i, p[0], byte(i*7))
			}
			i++
		}
	}
	wg.Wait()

	flood := make([]byte, 1<<20)
	if n := u.Feed(flood); n != 16 {
		t.Errorf("the FIFO accepted %d bytes, want 16", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		u.Feed(flood)
		u.Read(regData, p[:])
		u.Write(regData, p[:])
	}); n != 0 {
		t.Errorf("%v allocations per byte", n)
	}
}

// TestVCPUsMayRace is for the race detector.
func TestVCPUsMayRace(t *testing.T) {
	u := New(io.Discard, func() {})
	var wg sync.WaitGroup
	for cpu := range 4 {
		wg.Go(func() {
			var p [4]byte
			for i := range 2000 {
				u.Write(uint64(i*cpu)%8, []byte{byte(i)})
				u.Read(uint64(i+cpu)%8, p[:])
				u.Feed(p[:])
			}
		})
	}
	wg.Wait()
}

// FuzzSerial runs a sequence of accesses against the model: each step is a register and a kind, a
// count, and a value.
func FuzzSerial(f *testing.F) {
	f.Add([]byte("\x09\x00\x05\x10\x03hello"))
	f.Fuzz(func(t *testing.T, program []byte) {
		p := newPair(t)
		for len(program) >= 3 {
			off, kind := uint64(program[0]&7), program[0]>>3&3
			n, v := 1<<(program[1]&3), program[2]
			program = program[3:]
			switch kind {
			case 0:
				p.read(off, n)
			case 1, 2:
				p.write(off, bytes.Repeat([]byte{v}, n)...)
			case 3:
				p.feed(bytes.Repeat([]byte{v}, int(v)%40)...)
			}
		}
		for reg := range uint64(SizeBytes) {
			p.read(reg, 1)
		}
	})
}
