package vmm_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"minivmm/internal/testbed/vmmtest"
	"minivmm/vmm"
)

// bareKernel writes an image of 32-bit code at 2 MiB. The code is entered through the PVH note,
// with paging and interrupts off.
func bareKernel(t *testing.T, code []byte) string {
	t.Helper()
	const base, headers = 2 << 20, 64 + 2*56
	le := binary.LittleEndian
	note := []byte{4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0} // XEN_ELFNOTE_PHYS32_ENTRY
	note = le.AppendUint32(note, base+headers)
	elf := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	elf = le.AppendUint32(elf, 2|62<<16) // ET_EXEC, EM_X86_64
	elf = le.AppendUint32(elf, 1)
	for _, v := range []uint64{base + headers, 64, 0} { // e_entry, e_phoff, e_shoff
		elf = le.AppendUint64(elf, v)
	}
	for _, v := range []uint32{0, 64 | 56<<16, 2, 0} { // e_flags, sizes, two program headers, no sections
		elf = le.AppendUint32(elf, v)
	}
	elf = elf[:64]
	segment := func(kind uint64, off, gpa, size uint64) {
		for _, v := range []uint64{kind | 7<<32, off, gpa, gpa, size, size, 4} {
			elf = le.AppendUint64(elf, v)
		}
	}
	size := uint64(headers + len(code))
	segment(1, 0, base, size)                 // PT_LOAD
	segment(4, size, base, uint64(len(note))) // PT_NOTE
	path := filepath.Join(t.TempDir(), "bare")
	if err := os.WriteFile(path, bytes.Join([][]byte{elf, code, note}, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// store returns mov dword [addr], value.
func store(addr, value uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32([]byte{0xc7, 0x05}, addr), value)
}

// TestGuestMisuseOfVCPUsStopsOnlyTheGuest sends every kind of interrupt to every kind of
// destination, and runs code outside memory. A guest that survives powers off. None of it is an
// error of the host.
func TestGuestMisuseOfVCPUsStopsOnlyTheGuest(t *testing.T) {
	const (
		fixed, lowest, smi, reserved, nmi, initial, sipi, extINT = 0x000, 0x100, 0x200, 0x300, 0x400, 0x500, 0x600, 0x700
		logical, assert, self, all, others                       = 1 << 11, 1 << 14, 1 << 18, 2 << 18, 3 << 18
	)
	interrupt := func(dest, command uint32) []byte {
		return bytes.Join([][]byte{
			store(0xfee000f0, 0x1ff),          // local APIC on
			store(0xfee000d0, 1<<24),          // logical destination 1
			store(0x38000, 0xaa0f),            // rsm, at the SMI entry point
			store(0xfee00310, dest<<24),       // ICR, high
			store(0xfee00300, command|assert), // ICR, low
		}, nil)
	}
	for _, tt := range []struct {
		name string
		code []byte
		want vmm.Outcome
	}{
		{"INIT to itself", interrupt(0, initial), vmm.Rebooted},
		{"INIT to itself, logical", interrupt(1, initial|logical), vmm.Rebooted},
		{"INIT by shorthand", interrupt(0, initial|self), vmm.Rebooted},
		{"INIT to all", interrupt(0, initial|all), vmm.Rebooted},
		{"INIT to the other", interrupt(1, initial), vmm.PoweredOff},
		{"INIT to the others", interrupt(0, initial|others), vmm.PoweredOff},
		{"INIT to nobody", interrupt(0x55, initial), vmm.PoweredOff},
		{"INIT to nobody, logical", interrupt(0x80, initial|logical), vmm.PoweredOff},
		{"SIPI to itself", interrupt(0, sipi|8), vmm.PoweredOff},
		{"SIPI to all", interrupt(0, sipi|8|all), vmm.PoweredOff},
		{"SMI", interrupt(0, smi), vmm.PoweredOff},
		{"SMI to all", interrupt(0, smi|all), vmm.PoweredOff},
		{"NMI without a handler", interrupt(0, nmi), vmm.Crashed},
		{"NMI to the others", interrupt(0, nmi|others), vmm.PoweredOff},
		{"fixed", interrupt(0, fixed|0x40), vmm.PoweredOff},
		{"fixed, vector 0", interrupt(0, fixed), vmm.PoweredOff},
		{"lowest priority, logical", interrupt(0xff, lowest|logical|0x40), vmm.PoweredOff},
		{"lowest priority to nobody", interrupt(0x80, lowest|logical|0x40), vmm.PoweredOff},
		{"reserved", interrupt(0, reserved|0x40), vmm.PoweredOff},
		{"ExtINT", interrupt(0, extINT), vmm.PoweredOff},
		{"code outside memory", []byte{0xb8, 0, 0, 0, 0xf0, 0xff, 0xe0}, vmm.Crashed}, // mov eax, 0xf0000000; jmp eax
	} {
		t.Run(tt.name, func(t *testing.T) {
			// Wait for a delayed interrupt: mov ecx, 100000; loop .; mov dx, 0x600; mov al, 0x34;
			// out dx, al; jmp .
			powerOff := []byte{0xb9, 0xa0, 0x86, 1, 0, 0xe2, 0xfe, 0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xeb, 0xfe}
			kernel := bareKernel(t, append(tt.code, powerOff...))
			vmmtest.Boot(t, parse(t, "[boot]\nkernel = %q\n[machine]\nvcpus = 2\n", kernel)).Wait(tt.want)
		})
	}
}
