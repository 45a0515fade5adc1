package kvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"minivmm/internal/testbed/testenv"
)

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
		testenv.NeedNil(t, "kvm", errors.New("this KVM ignores the limit of the IDT in real mode"))
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
			all, err := stats.Read()
			return err != nil || all["halt_exits"] > 0
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
	// With the flag set, the guest is not entered, even without a signal. If it were, nothing would
	// interrupt it.
	stuck := time.AfterFunc(20*time.Second, func() { panic("immediate_exit is not heeded") })
	defer stuck.Stop()
	if e, err := m.cpu.Run(); err != nil || e.Reason != ExitIntr {
		t.Errorf("Run with immediate_exit: %v, %v", e, err)
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
	vmStats, err := m.vm.StatsFD()
	if err != nil {
		t.Fatal(err)
	}
	defer vmStats.Close()
	if all, err = vmStats.Read(); err != nil || !has(all, "pages_4k") {
		t.Errorf("counters of the VM: %v, %v", all, err)
	}
}

func has(counters map[string]uint64, name string) bool {
	_, ok := counters[name]
	return ok
}

// TestGuestSeesItsCPUIDAndMSRs compares what the guest reads with what was set.
func TestGuestSeesItsCPUIDAndMSRs(t *testing.T) {
	s := needKVM(t)
	m := boot(t, s, (*VM).CreateIRQChip,
		0x66, 0xb8, 0x00, 0x00, 0x00, 0x40, // mov eax, 0x40000000
		0x0f, 0xa2, //                         cpuid
		0x66, 0x89, 0xd8, //                   mov eax, ebx
		0x66, 0xe7, 0x10, //                   out 0x10, eax
		0x66, 0xb9, 0x77, 0x02, 0x00, 0x00, // mov ecx, 0x277
		0x0f, 0x32, //                         rdmsr
		0x66, 0xe7, 0x10, //                   out 0x10, eax
	)
	cpuid, err := s.SupportedCPUID()
	if err != nil || len(cpuid) < 5 {
		t.Fatalf("%d CPUID entries, %v", len(cpuid), err)
	}
	if err := m.cpu.SetCPUID2([]CPUIDEntry{{Function: 0x40000000, EBX: 0x12345678}}); err != nil {
		t.Error(err)
	}
	if err := m.cpu.SetCPUID2(make([]CPUIDEntry, 300)); !errors.Is(err, unix.E2BIG) {
		t.Errorf("300 entries: %v, want E2BIG", err)
	}
	const pat = 0x277
	if err := m.cpu.SetMSRs([]MSREntry{{Index: pat, Data: 0x0007040600070401}}); err != nil {
		t.Error(err)
	}
	const nobodys = 0x12345678
	err = m.cpu.SetMSRs([]MSREntry{{Index: pat, Data: 0x0007040600070401}, {Index: nobodys}})
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "MSR 0x12345678") {
		t.Errorf("unknown MSR: %v, want EINVAL naming it", err)
	}
	if err := m.cpu.SetMSRs(make([]MSREntry, maxMSREntries+1)); !errors.Is(err, unix.E2BIG) {
		t.Errorf("%d MSRs: %v, want E2BIG", maxMSREntries+1, err)
	}
	for _, want := range []uint32{0x12345678, 0x00070401} {
		if got := binary.LittleEndian.Uint32(m.expect(t, ExitIO).IO.Data); got != want {
			t.Errorf("the guest reads %#x, want %#x", got, want)
		}
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
	err = s.Require(CapUserMemory, Cap{60001, "KVM_CAP_60001", "9.1"}, Cap{60002, "KVM_CAP_60002", "9.2"})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "KVM_CAP_60001 (Linux 9.1), KVM_CAP_60002 (Linux 9.2)") {
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
