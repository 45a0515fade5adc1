package bench

import (
	"bytes"
	"encoding/binary"
)

const bootLine = "guest: init runs"

// tinyInit is a static ELF program that writes one line and then sleeps for ever, so that the
// benchmark measures the machine and the kernel.
func tinyInit() []byte {
	const base, headers = 0x40_0000, 64 + 56
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, 1: write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0xbe, 0, 0, 0, 0, // mov esi, message
		0xba, 0, 0, 0, 0, // mov edx, its length
		0x0f, 0x05, // syscall
		0xb8, 34, 0, 0, 0, // again: mov eax, 34: pause
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp again
	}
	message := bootLine + "\n"
	le := binary.LittleEndian
	le.PutUint32(code[11:], uint32(base+headers+len(code)))
	le.PutUint32(code[16:], uint32(len(message)))
	size := uint64(headers + len(code) + len(message))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01")
	b.Write(make([]byte, 9))
	for _, field := range []any{
		uint16(2), uint16(62), uint32(1), // ET_EXEC, EM_X86_64, EV_CURRENT
		uint64(base + headers), uint64(64), uint64(0), uint32(0), // e_entry, e_phoff, e_shoff, e_flags
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0), // sizes and numbers of headers
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(4096), // PT_LOAD, R+X
	} {
		_ = binary.Write(&b, le, field) // to memory
	}
	b.Write(code)
	b.WriteString(message)
	return b.Bytes()
}
