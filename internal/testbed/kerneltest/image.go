// Package kerneltest creates small files that look like kernels, modules and packages to a program
// that only inspects them. The files cannot run. The package is for tests.
package kerneltest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

var (
	le    = binary.LittleEndian
	ident = [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}
)

// The sizes of the ELF structures.
const (
	headerSize  = 64
	segmentSize = 56
	sectionSize = 64
)

// pack concatenates the bytes of the structures.
func pack(parts ...any) []byte {
	var b []byte
	for _, part := range parts {
		b, _ = binary.Append(b, le, part) // fails only for types without a fixed size
	}
	return b
}

// Vmlinux returns an x86-64 ELF executable with one loadable segment, which contains a kernel's
// version banner.
func Vmlinux(version string) []byte {
	const off, load = 0x1000, 0x1000000
	text := []byte("\xf4\xeb\xfd\x00Linux version " + version + "\n\x00")
	size := uint64(len(text))
	return pack(
		elf.Header64{
			Ident: ident, Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Entry: load,
			Phoff: headerSize, Phentsize: segmentSize, Phnum: 1,
		},
		elf.Prog64{Type: uint32(elf.PT_LOAD), Off: off, Paddr: load, Filesz: size, Memsz: size},
		make([]byte, off-headerSize-segmentSize), text)
}

// BzImage returns a bzImage of boot protocol 2.15 that contains the result of [Vmlinux], compressed
// by gzip. The image's header gives the kernel's version, and the image ends with its own checksum.
// See the kernel's Documentation/arch/x86/boot.rst.
func BzImage(version string) []byte {
	var payload bytes.Buffer
	z := gzip.NewWriter(&payload)
	// Neither call fails: the underlying writer is memory.
	z.Write(Vmlinux(version))
	z.Close()

	const setup, off = 3 * 512, 0x240
	kernel := (off + payload.Len() + 4 + 15) &^ 15
	b := make([]byte, setup+kernel)
	b[0x1f1] = setup/512 - 1
	le.PutUint32(b[0x1f4:], uint32(kernel/16))
	le.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x200:], "\xeb\x6aHdrS")
	le.PutUint16(b[0x206:], 0x20f)
	le.PutUint16(b[0x20e:], 0x200) // kernel_version
	b[0x211] = 1                   // LOADED_HIGH
	le.PutUint32(b[0x22c:], 0x7fffffff)
	le.PutUint32(b[0x230:], 2<<20)
	le.PutUint16(b[0x236:], 0x7f)
	le.PutUint32(b[0x238:], 2047)
	le.PutUint32(b[0x248:], off)
	le.PutUint32(b[0x24c:], uint32(payload.Len()))
	le.PutUint64(b[0x258:], 0x1000000)
	le.PutUint32(b[0x260:], 8<<20)
	copy(b[0x400:], version+"\x00")
	copy(b[setup+off:], payload.Bytes())
	le.PutUint32(b[len(b)-4:], ^crc32.ChecksumIEEE(b[:len(b)-4]))
	return b
}

// Module returns an ELF file with a section .modinfo that contains the given fields, such as
// "vermagic=6.12.3 SMP" or "depends=a,b".
func Module(fields ...string) []byte {
	info := []byte(strings.Join(fields, "\x00") + "\x00")
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	end := uint64(headerSize + len(info))
	return pack(
		elf.Header64{
			Ident: ident, Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
			Shoff: end + uint64(len(names)), Ehsize: headerSize, Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
		},
		info, names, elf.Section64{},
		elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: headerSize, Size: uint64(len(info))},
		elf.Section64{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: end, Size: uint64(len(names))})
}
