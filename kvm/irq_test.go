package kvm

import (
	"encoding/binary"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDoorbellStaysInTheKernel(t *testing.T) {
	for _, test := range []struct {
		name  string
		event IOEvent
		code  []byte
		want  uint64
	}{
		{"memory", IOEvent{Addr: 0x9000}, []byte{
			0xc6, 0x06, 0x00, 0x90, 0x01, //       mov byte [0x9000], 1
			0xc7, 0x06, 0x00, 0x90, 0x02, 0x00, // mov word [0x9000], 2
		}, 2},
		{"port", IOEvent{Addr: 0x40, PIO: true}, []byte{
			0xe6, 0x40, // out 0x40, al
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := boot(t, needKVM(t), nil, append(test.code, 0xf4)...)
			test.event.FD = newEventfd(t)
			if err := m.vm.IOEventFD(test.event, true); err != nil {
				t.Fatal(err)
			}
			if err := m.vm.IOEventFD(test.event, true); !errors.Is(err, unix.EEXIST) {
				t.Errorf("second registration: %v, want EEXIST", err)
			}
			m.expect(t, ExitHLT)
			if n := readEventfd(t, test.event.FD); n != test.want {
				t.Errorf("eventfd counted %d, want %d", n, test.want)
			}
			if err := m.vm.IOEventFD(test.event, false); err != nil {
				t.Error(err)
			}
		})
	}
}

// interrupted is a guest that turns on its local APIC, whose page is its data segment, says so at
// port 0x11, and waits with interrupts enabled. Its handler of vector 0x30 writes to port 0x10 and
// returns to waiting.
var interrupted = []byte{
	0x66, 0xc7, 0x06, 0xf0, 0x00, 0xff, 0x01, 0x00, 0x00, // mov dword [0xf0], 0x1ff: spurious vector, APIC on
	0xe6, 0x11, // out 0x11, al
	0xfb,       // sti
	0xf4,       // hlt
	0xeb, 0xfd, // jmp to hlt
}

// startInterrupted runs the guest interrupted until its local APIC is on.
func startInterrupted(t *testing.T) *machine {
	t.Helper()
	m := boot(t, needKVM(t), (*VM).CreateIRQChip, interrupted...)
	copy(m.ram[0x2000:], []byte{0xe6, 0x10, 0xcf}) // out 0x10, al; iret
	binary.LittleEndian.PutUint16(m.ram[4*0x30:], 0x2000)
	binary.LittleEndian.PutUint16(m.ram[4*0x30+2:], 0)
	sregs, err := m.cpu.Sregs()
	sregs.DS.Base = 0xfee00000
	if err := errors.Join(err, m.cpu.SetSregs(sregs)); err != nil {
		t.Fatal(err)
	}
	if io := m.expect(t, ExitIO).IO; io.Port != 0x11 {
		t.Fatalf("port %#x", io.Port)
	}
	return m
}

func TestInterruptArrives(t *testing.T) {
	msi := MSI{Address: 0xfee00000, Data: 0x30}
	route := []Route{{GSI: 40, MSI: &msi}}
	for _, test := range []struct {
		name  string
		raise func(t *testing.T, m *machine) error
	}{
		{"irqfd", func(t *testing.T, m *machine) error {
			fd := newEventfd(t)
			return errors.Join(m.vm.SetGSIRouting(route), m.vm.IRQFD(fd, 40, true), writeEventfd(fd))
		}},
		{"pending before assign", func(t *testing.T, m *machine) error {
			fd := newEventfd(t)
			return errors.Join(writeEventfd(fd), m.vm.SetGSIRouting(route), m.vm.IRQFD(fd, 40, true))
		}},
		{"line of an IOAPIC pin routed as MSI", func(t *testing.T, m *machine) error {
			fd := newEventfd(t)
			return errors.Join(m.vm.SetGSIRouting([]Route{{GSI: 5, MSI: &msi}}),
				m.vm.IRQFD(fd, 5, true), writeEventfd(fd))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := startInterrupted(t)
			if err := test.raise(t, m); err != nil {
				t.Fatal(err)
			}
			if io := m.expect(t, ExitIO).IO; io.Port != 0x10 {
				t.Errorf("port %#x", io.Port)
			}
		})
	}
}

func TestMaskedIRQFDKeepsTheCount(t *testing.T) {
	m := boot(t, needKVM(t), (*VM).CreateIRQChip, 0xf4)
	fd := newEventfd(t)
	err := errors.Join(m.vm.IRQFD(fd, 5, true), m.vm.IRQFD(fd, 5, false), writeEventfd(fd))
	if err != nil {
		t.Fatal(err)
	}
	if n := readEventfd(t, fd); n != 1 {
		t.Errorf("count %d, want 1", n)
	}
	if err := m.vm.IRQLine(5, true); err != nil {
		t.Error(err)
	}
}

func newEventfd(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func writeEventfd(fd int) error {
	_, err := unix.Write(fd, binary.NativeEndian.AppendUint64(nil, 1))
	return err
}

func readEventfd(t *testing.T, fd int) uint64 {
	t.Helper()
	var b [8]byte
	if _, err := unix.Read(fd, b[:]); err != nil {
		t.Fatal(err)
	}
	return binary.NativeEndian.Uint64(b[:])
}
