package kvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
)

const (
	guestRAM   = 0x8000 // bytes at gpa 0; everything above is MMIO
	guestEntry = 0x1000
)

// machine is a VM with one page-aligned range of RAM and one vCPU in real mode.
type machine struct {
	vm  *VM
	cpu *VCPU
	ram []byte
}

// hva returns the address of mapped memory, which Go did not allocate.
func hva(b []byte) uintptr { return reflect.ValueOf(b).Pointer() }

// newMachine creates a machine that will run code. irqchip, if not nil, is called before the vCPU is created.
func newMachine(s *System, irqchip func(*VM) error, code ...byte) (m *machine, err error) {
	m = &machine{}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	if m.vm, err = s.CreateVM(); err != nil {
		return m, err
	}
	if m.ram, err = unix.Mmap(-1, 0, guestRAM, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS); err != nil {
		return m, err
	}
	copy(m.ram[guestEntry:], code)
	err = errors.Join(
		m.vm.SetTSSAddr(0xfffbd000),
		m.vm.SetIdentityMapAddr(0xfffbc000),
		m.vm.SetUserMemoryRegion(0, 0, 0, guestRAM, hva(m.ram)))
	if err != nil {
		return m, err
	}
	if irqchip != nil {
		if err := irqchip(m.vm); err != nil {
			return m, err
		}
	}
	if m.cpu, err = m.vm.CreateVCPU(0); err != nil {
		return m, err
	}
	sregs, err := m.cpu.Sregs()
	if err != nil {
		return m, err
	}
	sregs.CS.Base, sregs.CS.Selector = 0, 0
	if err = m.cpu.SetSregs(sregs); err != nil {
		return m, err
	}
	return m, m.cpu.SetRegs(Regs{RIP: guestEntry, RFLAGS: 2, RSP: 0x4000})
}

func (m *machine) close() {
	if m.cpu != nil {
		m.cpu.Close()
	}
	if m.vm != nil {
		m.vm.Close()
	}
	if m.ram != nil {
		unix.Munmap(m.ram)
	}
}

// boot calls newMachine for a test and locks the thread.
func boot(t *testing.T, s *System, irqchip func(*VM) error, code ...byte) *machine {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	m, err := newMachine(s, irqchip, code...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return m
}

// next runs the guest until its next exit, ignoring signals: Go's preemption signals arrive at any time.
func (m *machine) next() (*Exit, error) {
	for {
		e, err := m.cpu.Run()
		if err != nil || e.Reason != ExitIntr {
			return e, err
		}
	}
}

func (m *machine) expect(t *testing.T, reason ExitReason) *Exit {
	t.Helper()
	e, err := m.next()
	if err != nil {
		t.Fatal(err)
	}
	if e.Reason != reason {
		regs, _ := m.cpu.Regs()
		t.Fatalf("exit %v at rip %#x, want %v", e, regs.RIP, reason)
	}
	return e
}

// tryGuest runs a guest that writes to a port.
func tryGuest(s *System) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m, err := newMachine(s, nil, 0xe6, 0x10, 0xf4) // out 0x10, al; hlt
	if err != nil {
		return err
	}
	defer m.close()
	e, err := m.next()
	if err != nil {
		return err
	}
	if e.Reason != ExitIO {
		return fmt.Errorf("a guest that writes to a port caused exit %v", e)
	}
	return nil
}

func TestPortAccess(t *testing.T) {
	m := boot(t, needKVM(t), nil,
		0xb0, 'x', //          mov al, 'x'
		0xba, 0xf8, 0x03, //   mov dx, 0x3f8
		0xee,       //         out dx, al
		0xe5, 0x20, //         in ax, 0x20
		0xe7, 0x21, //         out 0x21, ax
		0xf4) //               hlt
	io := m.expect(t, ExitIO).IO
	if io.Port != 0x3f8 || !io.Write || io.Size != 1 || io.Count != 1 || string(io.Data) != "x" {
		t.Errorf("out: %+v", io)
	}
	io = m.expect(t, ExitIO).IO
	if io.Port != 0x20 || io.Write || io.Size != 2 {
		t.Errorf("in: %+v", io)
	}
	binary.LittleEndian.PutUint16(io.Data, 0xbeef)
	io = m.expect(t, ExitIO).IO
	if io.Port != 0x21 || !bytes.Equal(io.Data, []byte{0xef, 0xbe}) {
		t.Errorf("out of the value read: %+v", io)
	}
	m.expect(t, ExitHLT)
}

func TestStringPortWriteHasAllItsData(t *testing.T) {
	m := boot(t, needKVM(t), nil,
		0xbe, 0x00, 0x20, // mov si, 0x2000
		0xb9, 0x05, 0x00, // mov cx, 5
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xf3, 0x6e, //       rep outsb
		0xf4)
	copy(m.ram[0x2000:], "hello")
	var got []byte
	for len(got) < 5 {
		io := m.expect(t, ExitIO).IO
		if len(io.Data) != io.Size*io.Count {
			t.Fatalf("%d bytes for %+v", len(io.Data), io)
		}
		got = append(got, io.Data...)
	}
	if string(got) != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestMMIOAccess(t *testing.T) {
	m := boot(t, needKVM(t), nil,
		0xc6, 0x06, 0x00, 0x80, 0x5a, // mov byte [0x8000], 0x5a
		0xa1, 0x02, 0x80, //             mov ax, [0x8002]
		0xa3, 0x04, 0x80, //             mov [0x8004], ax
		0xf4)
	mmio := m.expect(t, ExitMMIO).MMIO
	if mmio.GPA != 0x8000 || !mmio.Write || !bytes.Equal(mmio.Data, []byte{0x5a}) {
		t.Errorf("write: %+v", mmio)
	}
	mmio = m.expect(t, ExitMMIO).MMIO
	if mmio.GPA != 0x8002 || mmio.Write || len(mmio.Data) != 2 {
		t.Errorf("read: %+v", mmio)
	}
	copy(mmio.Data, []byte{0x12, 0x34})
	mmio = m.expect(t, ExitMMIO).MMIO
	if mmio.GPA != 0x8004 || !bytes.Equal(mmio.Data, []byte{0x12, 0x34}) {
		t.Errorf("write of the value read: %+v", mmio)
	}
}

func TestRunDoesNotAllocate(t *testing.T) {
	m := boot(t, needKVM(t), nil,
		0xe6, 0x10, // out 0x10, al
		0xeb, 0xfc) // jmp to it
	n := testing.AllocsPerRun(100, func() {
		if _, err := m.next(); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations per exit", n)
	}
}

func TestTripleFaultIsShutdown(t *testing.T) {
	m := boot(t, needKVM(t), nil, 0x0f, 0x0b) // ud2
	m.ram[0] = 0xf4                           // hlt, the target of vector 6 of an empty table
	sregs, err := m.cpu.Sregs()
	if err != nil {
		t.Fatal(err)
	}
	sregs.IDT.Limit = 0
	if err := m.cpu.SetSregs(sregs); err != nil {
		t.Fatal(err)
	}
	e, err := m.next()
	if err == nil && e.Reason == ExitHLT {
		testenv.NeedNil(t, "kvm", errors.New("a KVM that heeds the limit of the IDT in real mode"))
	}
	if err != nil || e.Reason != ExitShutdown {
		t.Fatalf("exit %v, %v; want SHUTDOWN", e, err)
	}
}

func TestHaltedVCPUIsStopped(t *testing.T) {
	m := boot(t, needKVM(t), (*VM).CreateIRQChip, 0xf4) // hlt, in the kernel
	stats, err := m.cpu.StatsFD()
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()

	tid := unix.Gettid()
	var wg sync.WaitGroup
	wg.Go(func() {
		waitFor(t, "the vCPU to halt", func() bool {
			n, err := stats.Lookup("halt_exits")
			return err != nil || n > 0
		})
		m.cpu.SetImmediateExit(true)
		unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
	})
	for {
		e, err := m.cpu.Run()
		if err != nil {
			t.Fatal(err)
		}
		if e.Reason != ExitIntr {
			t.Fatalf("exit %v, want INTR", e)
		}
		if binary.NativeEndian.Uint32(m.cpu.run) != 0 {
			break
		}
	}
	wg.Wait()
	// With the flag set, the guest is not entered, even without a signal. If it were, nothing would interrupt it.
	stuck := time.AfterFunc(20*time.Second, func() { panic("immediate_exit is not heeded") })
	defer stuck.Stop()
	if e, err := m.cpu.Run(); err != nil || e.Reason != ExitIntr {
		t.Errorf("Run with immediate_exit: %v, %v", e, err)
	}
	state, err := m.cpu.MPState()
	if err != nil || state != MPStateHalted {
		t.Errorf("state %v, %v; want halted", state, err)
	}
}

// waitFor waits until ok returns true, which depends on another thread in the kernel.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Errorf("timeout waiting for %s", what)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestDoorbellStaysInTheKernel(t *testing.T) {
	for _, test := range []struct {
		name  string
		event IOEvent
		code  []byte
		want  uint64
	}{
		{"any length", IOEvent{Addr: 0x9000}, []byte{
			0xc6, 0x06, 0x00, 0x90, 0x01, //       mov byte [0x9000], 1
			0xc7, 0x06, 0x00, 0x90, 0x02, 0x00, // mov word [0x9000], 2
		}, 2},
		{"datamatch", IOEvent{Addr: 0x9000, Len: 2, Match: true, DataMatch: 7}, []byte{
			0xc7, 0x06, 0x00, 0x90, 0x07, 0x00, // mov word [0x9000], 7
		}, 1},
		{"port", IOEvent{Addr: 0x40, Len: 1, PIO: true}, []byte{
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

func TestUnmatchedDatamatchExits(t *testing.T) {
	m := boot(t, needKVM(t), nil, 0xc7, 0x06, 0x00, 0x90, 0x08, 0x00) // mov word [0x9000], 8
	err := m.vm.IOEventFD(IOEvent{Addr: 0x9000, Len: 2, Match: true, DataMatch: 7, FD: newEventfd(t)}, true)
	if err != nil {
		t.Fatal(err)
	}
	m.expect(t, ExitMMIO)
}

// interrupted is a guest that waits with interrupts enabled. Its handler of vector 0x30 writes to port 0x10 and returns to
// waiting.
var interrupted = []byte{
	0xfb,       // sti
	0xf4,       // hlt
	0xeb, 0xfd, // jmp to hlt
}

func installHandler(m *machine) error {
	copy(m.ram[0x2000:], []byte{0xe6, 0x10, 0xcf}) // out 0x10, al; iret
	binary.LittleEndian.PutUint16(m.ram[4*0x30:], 0x2000)
	binary.LittleEndian.PutUint16(m.ram[4*0x30+2:], 0)
	lapic, err := m.cpu.LAPIC()
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(lapic.Regs[0xf0:], 0x1ff) // spurious vector, APIC on
	return m.cpu.SetLAPIC(lapic)
}

func TestInterruptArrives(t *testing.T) {
	msi := MSI{AddressLo: 0xfee00000, Data: 0x30}
	route := []Route{{GSI: 40, Kind: RouteMSI, MSI: msi}}
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
			return errors.Join(m.vm.SetGSIRouting([]Route{{GSI: 5, Kind: RouteMSI, MSI: msi}}),
				m.vm.IRQFD(fd, 5, true), writeEventfd(fd))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := boot(t, needKVM(t), (*VM).CreateIRQChip, interrupted...)
			if err := installHandler(m); err != nil {
				t.Fatal(err)
			}
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

func TestStatsCountExits(t *testing.T) {
	m := boot(t, needKVM(t), nil, 0xc6, 0x06, 0x00, 0x80, 0x5a, 0xf4)
	stats, err := m.cpu.StatsFD()
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	m.expect(t, ExitMMIO)
	m.expect(t, ExitHLT)
	all, err := stats.Read()
	if err != nil {
		t.Fatal(err)
	}
	if all["mmio_exits"] != 1 || all["exits"] < 2 {
		t.Errorf("mmio_exits %d, exits %d; want 1 and at least 2", all["mmio_exits"], all["exits"])
	}
	if len(all) != len(stats.Names()) {
		t.Errorf("%d counters, %d names", len(all), len(stats.Names()))
	}
	if _, err := stats.Lookup("no such"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("unknown counter: %v", err)
	}
	vmStats, err := m.vm.StatsFD()
	if err != nil {
		t.Fatal(err)
	}
	defer vmStats.Close()
	if _, err := vmStats.Lookup("pages_4k"); err != nil {
		t.Error(err)
	}
}

func TestStateIsReadBack(t *testing.T) {
	s := needKVM(t)
	m := boot(t, s, (*VM).CreateIRQChip, 0xf4)
	fpu, err := m.cpu.FPU()
	if err != nil {
		t.Fatal(err)
	}
	fpu.FCW = 0x27f
	fpu.XMM[3][0] = 9
	if err := m.cpu.SetFPU(fpu); err != nil {
		t.Fatal(err)
	}
	if got, err := m.cpu.FPU(); err != nil || got != fpu {
		t.Errorf("FPU %+v, %v", got, err)
	}
	cpuid, err := s.SupportedCPUID()
	if err != nil || len(cpuid) < 5 {
		t.Fatalf("%d CPUID entries, %v", len(cpuid), err)
	}
	if err := m.cpu.SetCPUID2(cpuid); err != nil {
		t.Error(err)
	}
	if err := m.cpu.SetCPUID2(make([]CPUIDEntry, 300)); !errors.Is(err, unix.E2BIG) {
		t.Errorf("300 entries: %v, want E2BIG", err)
	}
	const pat = 0x277
	if err := m.cpu.SetMSRs([]MSREntry{{Index: pat, Data: 0x0007040600070401}}); err != nil {
		t.Error(err)
	}
	got := []MSREntry{{Index: pat}}
	if err := m.cpu.GetMSRs(got); err != nil || got[0].Data != 0x0007040600070401 {
		t.Errorf("PAT %#x, %v", got[0].Data, err)
	}
	const nobodys = 0x12345678
	err = m.cpu.GetMSRs([]MSREntry{{Index: pat}, {Index: nobodys}})
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "MSR 0x12345678") {
		t.Errorf("unknown MSR: %v, want EINVAL naming it", err)
	}
	if err := m.cpu.SetMPState(MPStateHalted); err != nil {
		t.Error(err)
	}
	if st, err := m.cpu.MPState(); err != nil || st != MPStateHalted {
		t.Errorf("MP state %v, %v", st, err)
	}
	if l, err := s.MSRIndexList(); err != nil || len(l) == 0 {
		t.Errorf("%d MSRs, %v", len(l), err)
	}
}

func TestErrorsNameCallAndObject(t *testing.T) {
	s := needKVM(t)
	m := boot(t, s, nil, 0xf4)
	var perr *os.PathError
	err := m.vm.SetUserMemoryRegion(1, 0, 0x100, 0x1000, hva(m.ram))
	if !errors.As(err, &perr) || perr.Op != "KVM_SET_USER_MEMORY_REGION" || perr.Path != "kvm-vm" || !errors.Is(err, unix.EINVAL) {
		t.Errorf("misaligned slot: %#v", err)
	}
	if _, err := m.vm.CreateVCPU(0); !errors.Is(err, unix.EEXIST) {
		t.Errorf("second vCPU 0: %v, want EEXIST", err)
	}
	if err := m.vm.IRQFD(newEventfd(t), 5, true); !errors.Is(err, unix.EINVAL) {
		t.Errorf("irqfd without a chip: %v, want EINVAL", err)
	}
	if err := s.Require(CapUserMemory, CapIRQFD, CapIOEventFDAnyLength, CapImmediateExit); err != nil {
		t.Error(err)
	}
	err = s.Require(CapUserMemory, Cap(60001), Cap(60002))
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "KVM_CAP_60001, KVM_CAP_60002") {
		t.Errorf("unknown capabilities: %v", err)
	}
	if err := m.cpu.Close(); err != nil {
		t.Error(err)
	}
	if _, err := m.cpu.Run(); !errors.Is(err, unix.EBADF) {
		t.Errorf("Run after Close: %v, want EBADF", err)
	}
	m.cpu.SetImmediateExit(true)
	if err := m.cpu.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v, want os.ErrClosed", err)
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
