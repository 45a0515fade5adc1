package kvm

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
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

// newMachine creates a machine that will run code. irqchip, if not nil, is called before the vCPU
// is created.
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

// next runs the guest until its next exit, ignoring signals: Go's preemption signals arrive at any
// time.
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
